# syntax=docker/dockerfile:1
FROM ghcr.io/astral-sh/uv:python3.12-bookworm-slim AS builder
WORKDIR /app
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --frozen --no-install-project --no-dev
COPY . /app

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM python:3.12-slim-bookworm
RUN groupadd --system --gid 999 mcp \
 && useradd --system --gid 999 --uid 999 --create-home mcp
COPY --from=builder --chown=mcp:mcp /app /app
ENV PATH="/app/.venv/bin:$PATH" \
    # Bind to every address.
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_LEVEL=INFO
USER mcp:mcp
WORKDIR /app
EXPOSE 8000
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
ENV FLY_AFFINITY_RUN_AS=mcp:mcp
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--"]
# fly-affinity: end
CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
