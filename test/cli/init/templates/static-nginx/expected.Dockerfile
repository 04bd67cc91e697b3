FROM node:22 AS build
WORKDIR /app
COPY . .
RUN npm ci && npm run build

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-alpine AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM nginx:1.27-alpine
COPY nginx.conf /etc/nginx/conf.d/default.conf
COPY --from=build /app/dist /usr/share/nginx/html
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
RUN apk add --no-cache libstdc++
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "/docker-entrypoint.sh"]
CMD ["nginx", "-g", "daemon off;"]
# fly-affinity: end
