#!/bin/sh
# Runs before nginx, which ends where a certificate that it is to serve is not there.
until [ -s /certs/www/fullchain.pem ] && [ -s /certs/www/privkey.pem ]; do
    echo "waiting for autocertd to publish /certs/www"
    sleep 1
done
