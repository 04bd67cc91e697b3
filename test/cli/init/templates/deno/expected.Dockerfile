# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM denoland/deno:2.1.4

# The port that your application listens to.
EXPOSE 8080

WORKDIR /app

# Prefer not to run as root.
USER deno

COPY deno.json deno.lock ./
RUN deno install

COPY . .
RUN deno cache main.ts

# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
ENV FLY_AFFINITY_RUN_AS=deno
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "/tini", "--", "docker-entrypoint.sh"]
# fly-affinity: end
CMD ["run", "--allow-net", "--allow-env", "main.ts"]
