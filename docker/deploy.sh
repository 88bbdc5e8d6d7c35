#!/bin/sh
# Make the server ready for the workers: work pools, the deployments of prefect.yaml, the automations that end dead runs.
# May be run again at any time: pools and automations stay as they are, deployments become what prefect.yaml says.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -f "$here/prefect.yaml" ]; then cd "$here"; else cd "$here/.."; fi

: "${TRAILER_OUT_DIR:?the folder in which runs begin, where trailers without a place of their own go}"

for pool in films films-dispatch; do
    prefect work-pool inspect "$pool" > /dev/null 2>&1 || prefect work-pool create "$pool" --type process
done
prefect --no-prompt deploy --all
# Runs that stop sending heartbeats have crashed; so have runs that a worker took and never began.
python3 -c 'from flows.watchman import ensure_watchman; ensure_watchman()'
name=$(sed -n 's/^name: "\(.*\)"$/\1/p' "$here/pending.yaml")
prefect automation inspect "$name" > /dev/null 2>&1 || prefect automation create --from-file "$here/pending.yaml"
