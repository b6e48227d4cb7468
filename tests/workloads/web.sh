# Web servers: sourced by tests/workloads/run, never run. See engines.sh for the words, `run` for the two first lines.
# shellcheck shell=bash disable=SC2016

# As the images of the docker hub have it: what would be files below /var/log are the container's streams.
NGINX_CONF='error_log /dev/stderr notice; pid /tmp/nginx.pid; events {}
    http { access_log /dev/stdout; client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
    uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e; server { listen 8080;
    location / { return 200 "hello\n"; } location /missing { return 404 "nothing\n"; } } }'

workload_nginx_root() {
    : "nginx as root, its workers as www-data; logs are links to /dev/stdout and /dev/stderr; reload, graceful end"
    : quick in-ci
    start web -- sh -c 'ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log
        exec nginx -g "daemon off; error_log /dev/stderr notice;"'
    inside web -- await get 80/ | head -n 1
    inside web -- ps -o user:12= -C nginx | sort -u
    reload_nginx web
    inside web -- get 80/no-such | head -n 1
    finish web QUIT
    echo "requests logged: $(logs web | grep -c 'GET /')"
    echo "errors logged: $(logs web | grep -c 'gracefully shutting down' | sed 's/[1-9][0-9]*/some/')"
    remove web
}

# A new configuration is read by the master process, and new workers answer.
reload_nginx() {
    inside "$1" -- nginx -s reload
    inside "$1" -- await get 80/ | head -n 1
}

workload_nginx_user() {
    : "nginx as an ordinary user that logs to /dev/stdout and /dev/stderr"
    : quick in-ci
    start web --user=www-data "--env=CONF=$NGINX_CONF" -- sh -c 'printf %s "$CONF" >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf -g "daemon off;"'
    inside web -- await get 8080/
    inside web -- get 8080/missing
    inside web --user=www-data -- sh -c 'echo by exec >/dev/stdout; echo by the process of exec 2>&1 >/proc/self/fd/2'
    finish web QUIT
    echo "requests logged: $(logs web | grep -c 'GET /')"
    echo "notices logged: $(logs web | grep -c notice | sed 's/[1-9][0-9]*/some/')"
    remove web
}

workload_stdio_user() {
    : "an ordinary user's /dev/stdout, /dev/stderr, /dev/fd/1, /proc/1/fd/1; by a numeric ID; in a terminal"
    : quick in-ci
    once --user=www-data -- sh -c 'echo 1 >/dev/stdout; echo 2 >/dev/fd/1; echo 3 >/proc/1/fd/1; echo 4 >/dev/stderr' 2>&1 | sort
    once --user=4321:4321 -- sh -c 'echo 1 >/dev/stdout; echo 2 >>/proc/self/fd/1; stat -L -c %u:%A /dev/stdout /dev/stderr'
    in_terminal once --user=www-data --tty -- sh -c 'echo 1 >/dev/stdout; echo 2 >/dev/tty; stat -L -c %U /dev/stdout'
}

workload_python_http() {
    : "a Python HTTP service that serves files, with threads"
    : quick in-ci
    start web --user=nobody -- sh -c 'mkdir /tmp/w; echo from a file >/tmp/w/a; exec python3 -m http.server --directory /tmp/w 8000'
    inside web -- await get 8000/a
    inside web -- sh -c 'seq 40 | xargs -P 4 -I{} get 8000/a | grep -c file'
    finish web INT
    echo "requests logged: $(logs web | grep -c 'GET /a')"
    remove web
}

NODE_PROGRAM='const cluster = require("cluster"), http = require("http");
    if (cluster.isPrimary) { cluster.fork(); cluster.fork(); process.on("SIGTERM", () => { console.log("bye"); process.exit(3); }); }
    else http.createServer((q, a) => { console.log("GET " + q.url); a.end("hello from node " + process.getuid() + "\n"); }).listen(8000);'

workload_node_http() {
    : "a Node.js HTTP service with two workers (cluster) as an ordinary user"
    : services
    start web --user=nobody "--env=PROGRAM=$NODE_PROGRAM" -- sh -c 'printf %s "$PROGRAM" >/tmp/a.js; exec node /tmp/a.js'
    inside web -- await get 8000/
    inside web -- get 8000/a
    finish web TERM
    logs web
    remove web
}

workload_apache_root() {
    : "apache as root, its workers as www-data, logging to /dev/stdout and /dev/stderr; graceful reload and end"
    : services
    start web --env=APACHE_ULIMIT_MAX_FILES=true -- sh -c 'ln -sf /dev/stdout /var/log/apache2/access.log; ln -sf /dev/stderr /var/log/apache2/error.log
        ln -sf /dev/stdout /var/log/apache2/other_vhosts_access.log; mkdir -p /run/lock/apache2 /run/apache2
        . /etc/apache2/envvars; exec apache2 -DFOREGROUND'
    inside web -- await get 80/ | head -n 1
    inside web -- ps -o user:12= -C apache2 | sort -u
    inside web -- apache2ctl -k graceful 2>/dev/null
    inside web -- await get 80/no-such | head -n 1
    finish web TERM
    echo "requests logged: $(logs web | grep -c 'GET /')"
    echo "errors logged: $(logs web | grep -c 'configured -- resuming' | sed 's/[1-9][0-9]*/some/')"
    remove web
}

workload_apache_user() {
    : "apache as an ordinary user on port 8080"
    : services
    start web --user=www-data -- sh -c 'sed "s/^Listen 80$/Listen 8080/" /etc/apache2/ports.conf >/tmp/ports
        sed -e "s@^Include ports.conf@Include /tmp/ports@" -e "s@^ErrorLog.*@ErrorLog /dev/stderr@" \
            -e "s@^IncludeOptional sites-enabled.*@CustomLog /dev/stdout common\nDocumentRoot /var/www/html@" /etc/apache2/apache2.conf >/tmp/apache2.conf
        export APACHE_RUN_DIR=/tmp APACHE_LOCK_DIR=/tmp APACHE_PID_FILE=/tmp/pid APACHE_RUN_USER=www-data APACHE_RUN_GROUP=www-data APACHE_LOG_DIR=/tmp
        exec apache2 -d /etc/apache2 -f /tmp/apache2.conf -DFOREGROUND'
    inside web -- await get 8080/ | head -n 1
    finish web TERM
    echo "requests logged: $(logs web | grep -c 'GET /')"
    remove web
}

workload_php_fpm() {
    : "php-fpm behind nginx, both logging to the container's streams"
    : services
    start web -- sh -c 'echo "<?php echo \"php \", 6 * 7, \" \", posix_getuid() > 0 ? \"a user\" : \"root\", \"\n\"; error_log(\"told by php\");" >/var/www/html/a.php
        sed -i -e "s@^listen = .*@listen = 127.0.0.1:9000@" -e "s@^;catch_workers_output.*@catch_workers_output = yes@" /etc/php/*/fpm/pool.d/www.conf
        sed -i "s@^error_log = .*@error_log = /proc/self/fd/2@" /etc/php/*/fpm/php-fpm.conf
        printf "server { listen 80; root /var/www/html; location ~ php\$ { include fastcgi.conf; fastcgi_pass 127.0.0.1:9000; } }" >/etc/nginx/sites-enabled/default
        ln -sf /dev/stderr /var/log/nginx/error.log; mkdir -p /run/php; nginx; exec $(ls /usr/sbin/php-fpm*) --nodaemonize'
    inside web -- await sh -c 'get 80/a.php | grep php'
    finish web QUIT
    echo "told: $(logs web | grep -c 'told by php' | sed 's/[1-9][0-9]*/some/')"
    remove web
}
