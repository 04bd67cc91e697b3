FROM eclipse-temurin:21-jdk-alpine AS build
WORKDIR /workspace
COPY mvnw pom.xml ./
COPY .mvn .mvn
COPY src src
RUN ./mvnw -q package -DskipTests

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-alpine AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM eclipse-temurin:21-jre-alpine
RUN addgroup -S spring && adduser -S spring -G spring
USER spring:spring
VOLUME /tmp
COPY --from=build /workspace/target/*.jar app.jar
ENV JAVA_OPTS="-XX:MaxRAMPercentage=75"
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
RUN apk add --no-cache libstdc++ setpriv
ENV FLY_AFFINITY_RUN_AS=spring:spring
# fly-affinity: was ENTRYPOINT java $JAVA_OPTS \
# fly-affinity: was   # Faster start
# fly-affinity: was   -Djava.security.egd=file:/dev/./urandom \
# fly-affinity: was   -jar /app.jar
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "/bin/sh", "-c", "java $JAVA_OPTS -Djava.security.egd=file:/dev/./urandom -jar /app.jar"]
# fly-affinity: end
