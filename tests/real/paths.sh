#!/bin/bash
# Whether nginx and Python's URL parsers (urllib, requests, yarl, httpx) read every path that the agent allows as the
# agent does: the corpus of attacks and some thousand made-up paths, byte for byte through relay and agent to nginx.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
need nginx nginx-light
python_environment requests yarl httpx

port=$(free_port)
user=
[ "$(id -u)" != 0 ] || user="user root;"
cat >"$work/nginx.conf" <<NGINX
daemon off; $user pid $work/nginx.pid; error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $work/nginx-body; proxy_temp_path $work/nginx-proxy; fastcgi_temp_path $work/nginx-fastcgi;
  uwsgi_temp_path $work/nginx-uwsgi; scgi_temp_path $work/nginx-scgi;
  large_client_header_buffers 4 32k;
  server {
    listen 127.0.0.1:$port;
    # The target as it came, and the path as nginx reads it.
    location / { default_type application/octet-stream; return 200 "\$request_uri\n\$uri"; }
  }
}
NGINX
start nginx nginx -e stderr -p "$work" -c "$work/nginx.conf"
wait_until 20 listening "$port" || give_up "nginx starts"
start_relay
upstream paths web "http://127.0.0.1:$port"
start_agent paths
connect paths

export RELAY_TOKEN=$token
if ! timeout $((LIMIT * 3)) "$python" "$here/parts/path_readers.py" "$(url paths web)" "$authority" "$here/../vectors/policy/attacks.toml" 2>"$work/client.log"; then
    failed=1
    tail -n 25 "$work/client.log" | sed 's/^/    /' >&2
fi
