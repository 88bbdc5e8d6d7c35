#!/bin/sh
# Make the server ready for the workers: work pools, the deployments of prefect.yaml, the automation that ends dead runs.
# May be run again at any time: pools and the automation stay as they are, deployments become what prefect.yaml says.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -f "$here/prefect.yaml" ]; then cd "$here"; else cd "$here/.."; fi

: "${TRAILER_OUT_DIR:?the folder in which runs begin, where trailers without a place of their own go}"

for pool in films films-dispatch; do
    prefect work-pool inspect "$pool" > /dev/null 2>&1 || prefect work-pool create "$pool" --type process
done
prefect --no-prompt deploy --all
name="trailer: end runs whose process died"
prefect automation inspect "$name" > /dev/null 2>&1 || prefect automation create --from-file "$here/crashed.yaml"
