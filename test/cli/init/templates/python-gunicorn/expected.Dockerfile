ARG PYTHON_VERSION=3.12-slim

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM python:${PYTHON_VERSION}

ENV PYTHONDONTWRITEBYTECODE 1
ENV PYTHONUNBUFFERED 1

RUN mkdir -p /code

WORKDIR /code

COPY requirements.txt /tmp/requirements.txt
RUN set -ex && \
    pip install --upgrade pip && \
    pip install -r /tmp/requirements.txt && \
    rm -rf /root/.cache/
COPY . /code

RUN <<EOT
python manage.py collectstatic --noinput
CMD="not an instruction"
EOT

EXPOSE 8000

# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--"]
# fly-affinity: end
CMD gunicorn --bind :8000 --workers 2 demo.wsgi
