#!/usr/bin/env bash
# Writes columns.txt: the columns of `kubectl get` as a reference API server declares them.
#
#   generate.sh KUBECONFIG > columns.txt
#
# A line is GROUP/RESOURCE, then a line a column that begins with a tab: name, type, format,
# priority, description. `@name` and `@age` stand for the descriptions that most have in common,
# which the first lines give. Line breaks are written \n.
set -euo pipefail
kubectl --kubeconfig "$1" proxy --port 0 > /tmp/columns.$$ &
trap 'kill %1; rm -f /tmp/columns.$$' EXIT
until grep -q Starting /tmp/columns.$$; do sleep 0.1; done
server="http://$(grep -o '127.0.0.1:[0-9]*' /tmp/columns.$$)"
table() { curl -s -H 'Accept: application/json;as=Table;v=v1;g=meta.k8s.io' "$server$1?limit=1"; }
name=$(table /api/v1/pods | jq -r '.columnDefinitions[] | select(.name == "Name").description | gsub("\n"; "\\n")')
age=$(table /api/v1/pods | jq -r '.columnDefinitions[] | select(.name == "Age").description | gsub("\n"; "\\n")')
printf '@name\t%s\n@age\t%s\n' "$name" "$age"
for version in /api/v1 $(curl -s "$server/apis" | jq -r '.groups[].versions[].groupVersion | "/apis/\(.)"'); do
  curl -s "$server$version" | jq -r '.resources[] | select(.verbs | index("list")) | .name' |
  while read -r resource; do
    group=$(sed -n 's|^/apis/\([^/]*\)/.*|\1|p' <<< "$version")
    table "$version/$resource" |
    jq -r --arg head "$group/$resource" --arg name "$name" --arg age "$age" '
      select([.columnDefinitions[].name] != ["Name", "Created At"]) |
      $head, (.columnDefinitions[] |
        (.description | gsub("\n"; "\\n") | if . == $name then "@name" elif . == $age then "@age" else . end) as $text |
        "\t" + ([.name, .type, .format, (.priority | tostring), $text] | join("\t")))'
  done
done
