# use the official Bun image
FROM oven/bun:1 AS base
WORKDIR /usr/src/app

# install with --production (exclude devDependencies)
FROM base AS install
RUN mkdir -p /temp/prod
COPY package.json bun.lock /temp/prod/
RUN cd /temp/prod && bun install --frozen-lockfile --production

# copy production dependencies and source code into final image
# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM base AS release
COPY --from=install /temp/prod/node_modules node_modules
COPY index.ts package.json ./

# run the app
USER bun
EXPOSE 3000/tcp
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
ENV FLY_AFFINITY_RUN_AS=bun
# fly-affinity: was ENTRYPOINT [ "bun", "run", "index.ts" ]
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "bun", "run", "index.ts"]
# fly-affinity: end
