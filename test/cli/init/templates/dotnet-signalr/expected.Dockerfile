FROM mcr.microsoft.com/dotnet/aspnet:9.0 AS base
USER $APP_UID
WORKDIR /app
EXPOSE 8080

FROM mcr.microsoft.com/dotnet/sdk:9.0 AS build
ARG BUILD_CONFIGURATION=Release
WORKDIR /src
COPY ["ChatHub.csproj", "./"]
RUN dotnet restore "ChatHub.csproj"
COPY . .
RUN dotnet build "ChatHub.csproj" -c $BUILD_CONFIGURATION -o /app/build

FROM build AS publish
RUN dotnet publish "ChatHub.csproj" -c Release -o /app/publish /p:UseAppHost=false

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM base AS final
WORKDIR /app
COPY --from=publish /app/publish .
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
# Root hands over the store, then app and sidecar run as this user.
USER root
ENV FLY_AFFINITY_RUN_AS=$APP_UID
# fly-affinity: was ENTRYPOINT ["dotnet", "ChatHub.dll"]
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "dotnet", "ChatHub.dll"]
# fly-affinity: end
