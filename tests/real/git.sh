#!/bin/bash
# git over smart HTTP through the relay: clone and push of a repository of about 100 MB of random data, against
# git-http-backend behind nginx. Both must arrive with the same commit ids and pass git's own check.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

MEBIBYTES=96         # of random data to clone: nothing on the way can compress it
PUSHED_MEBIBYTES=24  # of random data to push: far above git's postBuffer, so that it is sent in chunks

need git git
need nginx nginx-light
need fcgiwrap fcgiwrap
need openssl openssl
need curl curl
backend=$(git --exec-path)/git-http-backend
[ -x "$backend" ] || skip_all "git-http-backend is not part of this git"

export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
git config --global user.name "A test"
git config --global user.email "test@example.com"
git config --global init.defaultBranch main
git config --global safe.directory '*'

# random_files FOLDER COUNT: files of 4 MiB each.
random_files() {
    local number
    mkdir -p "$1"
    for number in $(seq "$2"); do head -c 4194304 /dev/urandom >"$1/$number.bin"; done
}

serve_repository() {
    mkdir "$work/repositories" "$work/web"
    git init -q "$work/origin"
    random_files "$work/origin/first" $((MEBIBYTES / 4))
    git -C "$work/origin" add .
    git -C "$work/origin" commit -qm "Random data"
    git clone -q --bare "$work/origin" "$work/repositories/project.git"
    git -C "$work/repositories/project.git" config http.receivepack true

    local port
    port=$(free_port)
    web=http://127.0.0.1:$port
    start fcgiwrap fcgiwrap -s "unix:$work/fcgiwrap.sock"
    local user=
    [ "$(id -u)" != 0 ] || user="user root;"
    cat >"$work/nginx.conf" <<NGINX
daemon off; $user pid $work/nginx.pid; error_log stderr warn;
events {}
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path $work/web/body; fastcgi_temp_path $work/web/fastcgi; proxy_temp_path $work/web/proxy;
  uwsgi_temp_path $work/web/uwsgi; scgi_temp_path $work/web/scgi;
  server {
    listen 127.0.0.1:$port;
    location ~ ^/(.+)\$ {
      fastcgi_pass unix:$work/fcgiwrap.sock;
      include /etc/nginx/fastcgi_params;
      fastcgi_read_timeout 300s;
      fastcgi_param SCRIPT_FILENAME $backend;
      fastcgi_param GIT_PROJECT_ROOT $work/repositories;
      fastcgi_param GIT_HTTP_EXPORT_ALL "1";
      fastcgi_param PATH_INFO \$uri;
      fastcgi_param HOME $work;
    }
  }
}
NGINX
    start nginx nginx -e stderr -p "$work" -c "$work/nginx.conf"
    wait_until 20 listening "$port" || give_up "nginx starts"
}

same_commit() { [ "$(git -C "$1" rev-parse main)" = "$(git -C "$2" rev-parse main)" ]; }

serve_repository
start_relay
# A busy machine packs for minutes before it says anything.
upstream git web "$web" 'response_timeout = "10m"'
start_agent git
connect git

export GIT_SSL_CAINFO=$authority
git config --global http.extraHeader "Relay-Authorization: Bearer $token"
remote=$(url git web)/project.git

check "clone of $MEBIBYTES MiB" timeout $LIMIT git clone -q "$remote" "$work/clone"
check "the clone has the same commit" same_commit "$work/clone" "$work/repositories/project.git"
check "the clone passes git fsck" git -C "$work/clone" fsck --full --strict

random_files "$work/clone/second" $((PUSHED_MEBIBYTES / 4))
git -C "$work/clone" add .
git -C "$work/clone" commit -qm "More random data"
check "push of $PUSHED_MEBIBYTES MiB" timeout $LIMIT git -C "$work/clone" push -q origin main
check "the pushed commit arrived" same_commit "$work/clone" "$work/repositories/project.git"
check "the repository passes git fsck" git -C "$work/repositories/project.git" fsck --full --strict

no_token() { ! timeout $LIMIT git -c http.extraHeader= ls-remote "$remote"; }
check "without a token nothing is served" no_token
