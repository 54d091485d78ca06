#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the chat server and the agent together for a moment:
#   run.sh build/examples/chat_service/chat_server build/examples/chat_service/agent
# Exits with 0 if every prompt was answered, although the server simulates failures.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: run.sh CHAT_SERVER AGENT" >&2
  exit 2
fi
server=$1
agent=$2
root=$(dirname "$0")
directory=$(mktemp -d)
server_pid=
finish() {
  if [ -n "$server_pid" ]; then
    kill "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
  fi
  rm -rf "$directory"
}
trap finish EXIT
trap 'exit 1' INT TERM

"$server" --port-file "$directory/port" --fail-rate 0.2 --cut-rate 0.1 --seed 1 &
server_pid=$!
while [ ! -s "$directory/port" ]; do
  kill -0 "$server_pid" 2>/dev/null || { echo "run.sh: the server did not start" >&2; exit 1; }
  sleep 0.1
done
url=http://127.0.0.1:$(cat "$directory/port")

"$agent" --base-url "$url" --search-root "$root" --max-attempts 12 \
  'What is 6 * 7?' 'Find "traceparent" in the files.' 'Explain spans to me.'
"$agent" --base-url "$url" --search-root "$root" --max-attempts 12 --requests 40 --concurrency 8
