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
# (glibc 2.34, libstdc++). `start` gives up root, and so does the app: RUN_AS=uid:gid names another user.

# Debian, not Alpine: the same C library as most apps' images, and setpriv to give up root.
FROM node:24-slim AS base
WORKDIR /build
COPY package.json package-lock.json ./

FROM base AS compiled
# No install scripts: none is needed here, and the dev dependency `node` would load a second Node.js.
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY .config ./.config
COPY src ./src
RUN npm run build

FROM base AS dependencies
# better-sqlite3 has its binaries in the package; its sources are only ballast.
RUN npm ci --ignore-scripts --omit=dev \
  && rm -rf node_modules/better-sqlite3/deps node_modules/better-sqlite3/src

FROM node:24-slim
WORKDIR /opt/fly-affinity
COPY --from=base /usr/local/bin/node bin/node
COPY --from=dependencies /build/node_modules node_modules
COPY --from=compiled /build/dist dist
COPY package.json LICENSE ./
COPY src/docs src/docs
COPY --chmod=755 <<'START' start
#!/bin/sh
# A fresh volume belongs to root: hand the store's folder over, then give up root for good. The last
# step is an exec, so that signals reach the sidecar itself.
set -eu
if [ "$(id -u)" != 0 ]; then
  exec /opt/fly-affinity/bin/node /opt/fly-affinity/dist/main.js "$@"
fi
user=${FLY_AFFINITY_RUN_AS:-${RUN_AS:-1000:1000}}
as_user="setpriv --reuid=${user%:*} --regid=${user#*:} --clear-groups --inh-caps=-all"
store=${FLY_AFFINITY_SESSION_STORE_PATH:-${SESSION_STORE_PATH:-/data/session-store.sqlite}}
case $store in /*)
  folder=$(dirname "$store")
  # Whatever fails here, the sidecar says so itself, and keeps its sessions in memory.
  mkdir -p "$folder" || true
  $as_user test -w "$folder" || chown "$user" "$folder" || true
  for file in "$store" "$store-wal" "$store-shm"; do
    if [ -e "$file" ]; then chown "$user" "$file" || true; fi
  done
esac
exec $as_user "$0" "$@"
START

ENV NODE_ENV=production
VOLUME /data
# The edge, the other sidecars, Prometheus and the health checks.
EXPOSE 8080 8081 9091
ENTRYPOINT ["/opt/fly-affinity/start"]
CMD ["serve"]
