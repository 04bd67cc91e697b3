FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN composer install --no-dev --no-scripts --prefer-dist

# fly-affinity: begin (fly-affinity init --remove undoes this)
FROM node:24-slim AS fly-affinity
RUN npm install --global --ignore-scripts fly-affinity@0.1.0 \
  && mv /usr/local/lib/node_modules/fly-affinity /opt/fly-affinity \
  && cp /opt/fly-affinity/.config/start /opt/fly-affinity/start \
  && mkdir /opt/fly-affinity/bin && cp /usr/local/bin/node /opt/fly-affinity/bin/node
# fly-affinity: end
FROM php:8.3-apache
RUN docker-php-ext-install pdo_mysql opcache \
    && a2enmod rewrite
ENV APACHE_DOCUMENT_ROOT /var/www/html/public
RUN sed -ri -e 's!/var/www/html!${APACHE_DOCUMENT_ROOT}!g' /etc/apache2/sites-available/*.conf
COPY --from=vendor /app/vendor /var/www/html/vendor
COPY . /var/www/html
RUN chown -R www-data:www-data /var/www/html
EXPOSE 80
# fly-affinity: begin (fly-affinity init --remove undoes this)
COPY --from=fly-affinity /opt/fly-affinity /opt/fly-affinity
ENTRYPOINT ["/opt/fly-affinity/start", "run", "--", "docker-php-entrypoint"]
CMD ["apache2-foreground"]
# fly-affinity: end
