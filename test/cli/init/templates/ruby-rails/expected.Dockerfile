# syntax=docker/dockerfile:1
# check=error=true

# Make sure RUBY_VERSION matches the Ruby version in .ruby-version
ARG RUBY_VERSION=3.4.2
FROM docker.io/library/ruby:$RUBY_VERSION-slim AS base

# Rails app lives here
WORKDIR /rails

# Install base packages
RUN apt-get update -qq && \
    apt-get install --no-install-recommends -y curl libjemalloc2 libvips sqlite3 && \
    rm -rf /var/lib/apt/lists /var/cache/apt/archives

# Set production environment
ENV RAILS_ENV="production" \
    BUNDLE_DEPLOYMENT="1" \
    BUNDLE_PATH="/usr/local/bundle" \
    BUNDLE_WITHOUT="development"

# Throw-away build stage to reduce size of final image
FROM base AS build

COPY Gemfile Gemfile.lock ./
RUN bundle install

COPY . .
RUN SECRET_KEY_BASE_DUMMY=1 ./bin/rails assets:precompile

# Final stage for app image
# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM base

# Copy built artifacts: gems, application
COPY --from=build "${BUNDLE_PATH}" "${BUNDLE_PATH}"
COPY --from=build /rails /rails

# Run and own only the runtime files as a non-root user for security
RUN groupadd --system --gid 1000 rails && \
    useradd rails --uid 1000 --gid 1000 --create-home --shell /bin/bash && \
    mkdir /data && \
    chown -R rails:rails db log storage tmp /data
USER 1000:1000

# Entrypoint prepares the database.
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
ENV FLY_AFFINITY_RUN_AS=1000:1000
# fly-affinity: was ENTRYPOINT ["/rails/bin/docker-entrypoint"]
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "env", "PORT=3000", "/rails/bin/docker-entrypoint"]
# fly-affinity: end

# Start server via Thruster by default, this can be overwritten at runtime
EXPOSE 80
VOLUME /data
CMD ["./bin/thrust", "./bin/rails", "server"]
