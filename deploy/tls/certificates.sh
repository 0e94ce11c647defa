#!/usr/bin/env bash
# An authority of your own and one certificate for scheduler, workers and clients: bash certificates.sh FOLDER [DAYS]
# Dask checks that both sides were signed by this authority, not host names: whoever holds dask.key may run code on the
# cluster. Keep it as you keep an SSH key; give each user or service a certificate of its own with the last command.
set -euo pipefail
folder=${1:?give a folder for the files}
days=${2:-365}
umask 077
mkdir -p "$folder"
cd "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj "/CN=pairscape authority" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.pem
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=dask" -keyout dask.key -out dask.csr
printf 'extendedKeyUsage=serverAuth,clientAuth\n' > dask.ext
openssl x509 -req -in dask.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -extfile dask.ext -out dask.pem
rm -f dask.csr dask.ext ca.srl
