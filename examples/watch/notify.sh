#!/bin/sh
# A hook that posts the event to a chat. NOTIFY_URL is the URL of a webhook, and as secret as a password: set it where
# planapply runs, such as in /etc/planapply/NAME.env.
set -eu
case $PLANAPPLY_EVENT in
    on_node_lost) text="lost $PLANAPPLY_NODES" ;;
    on_applied) text="$PLANAPPLY_COMMAND: $PLANAPPLY_ADDED added, $PLANAPPLY_CHANGED changed, $PLANAPPLY_DESTROYED destroyed" ;;
    on_failed) text="$PLANAPPLY_COMMAND failed ($PLANAPPLY_ERRORS)" ;;
    *) text=$PLANAPPLY_EVENT ;;
esac
# Names of clusters and nodes, and codes, need no escapes in JSON. The URL is on stdin, so that no process list shows it.
printf 'url = "%s"\n' "$NOTIFY_URL" |
    curl --silent --show-error --fail --max-time 20 --config - \
        --header 'Content-Type: application/json' --data "{\"text\": \"Dask cluster $PLANAPPLY_CLUSTER: $text\"}"
