# syntax=docker/dockerfile:1
#
# The sidecar as an image of its own, and as a folder to copy into the app's image:
#
#   FROM python:3.13-slim
#   ...
#   COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
#   ENTRYPOINT ["/opt/fly-affinity/start", "run", "--"]
#   CMD ["python", "server.py"]
#
# The folder brings its own Node.js; the image it goes into has to be of Debian 12, Ubuntu 22.04 or newer
# (glibc 2.34, libstdc++). Sidecar and app run as the user of that image; if that is root, RUN_AS=uid:gid gives
# up root for both.

# Debian, not Alpine: the same C library as most apps' images, and setpriv to drop root. What is built is the same
# for each processor.
FROM --platform=$BUILDPLATFORM node:24-slim AS base
WORKDIR /build
COPY package.json package-lock.json ./

FROM base AS packed
# No install scripts: none is needed here, and the dev dependency `node` would load a second Node.js.
RUN npm ci --ignore-scripts
COPY . .
# The package as it is on npm.
RUN npm pack && tar -xzf fly-affinity-*.tgz

FROM base AS dependencies
# better-sqlite3 has its binaries in the package; its sources, and what is for other systems, are only ballast.
RUN npm ci --ignore-scripts --omit=dev && cd node_modules/better-sqlite3 \
  && rm -rf deps src prebuilds/darwin-* prebuilds/win32-* prebuilds/linuxmusl-*

# The first process of a container, which has to reap orphans. Static, for every image.
FROM node:24-slim AS init
RUN apt-get update && apt-get install --yes --no-install-recommends tini

FROM node:24-slim
WORKDIR /opt/fly-affinity
COPY --from=init /usr/local/bin/node bin/node
COPY --from=dependencies /build/node_modules node_modules
COPY --from=packed /build/package ./
COPY --from=packed /build/package/.config/start start
COPY --from=init /usr/bin/tini-static bin/tini
COPY --from=init /usr/share/doc/tini/copyright bin/tini.copyright

# Of this image only: a folder that is copied keeps the user of the image it goes into.
ENV RUN_AS=1000:1000
ENV NODE_ENV=production
VOLUME /data
# The edge, the other sidecars, Prometheus and the health checks.
EXPOSE 8080 8081 9091
ENTRYPOINT ["/opt/fly-affinity/start"]
CMD ["serve"]
