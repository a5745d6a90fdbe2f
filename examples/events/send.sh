#!/bin/sh
# Send one usage event with curl:  METERKIT_URL=http://localhost:8700 METERKIT_KEY=... ./send.sh acme request-17
# The id stays the same in each try, so the event counts once however often it arrives.
set -eu
company=$1
id=$2

curl --silent --show-error --fail-with-body --retry 8 --retry-connrefused \
    "$METERKIT_URL/v1/events" \
    --header "Authorization: Bearer $METERKIT_KEY" \
    --header "Content-Type: application/cloudevents+json" \
    --data @- <<EOF
{"specversion": "1.0", "type": "credit-score", "source": "score-api", "id": "$id", "subject": "$company"}
EOF
