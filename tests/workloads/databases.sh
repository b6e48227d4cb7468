# Databases: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_redis() {
    : "redis as its user: set, get, a background save (fork), a restart that finds its data"
    : quick in-ci
    start db --user=redis -- sh -c 'mkdir -p /tmp/data; exec redis-server --save "" --dir /tmp/data --maxmemory 32mb'
    inside db -- await redis-cli ping
    inside db -- redis-cli set key value
    inside db -- redis-cli bgsave | sed 's/ by.*//'
    inside db -- await sh -c 'redis-cli info persistence | grep -q rdb_last_bgsave_status:ok && redis-cli info persistence | grep -q rdb_bgsave_in_progress:0'
    inside db -- redis-cli config get maxclients
    restart db
    inside db -- await redis-cli get key
    finish db TERM
    remove db
}

# Stopped and started again, by the same container.
restart() {
    if [[ $ENGINE == ctr ]]; then
        # Ctr's `run` is the only one of its commands that says how a task is started.
        return
    fi
    cli restart --time 20 "$(full "$1")" >/dev/null || refused $? "restart $1"
}

workload_postgres() {
    : "postgres: initdb as its user, shared memory, connections, a restart that finds its data, fast shutdown"
    : services
    start db --user=postgres -- bash -c 'cd /tmp; PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
        [ -e /tmp/data ] || initdb --no-sync -D /tmp/data >/tmp/initdb.log; exec postgres -D /tmp/data -k /tmp -c fsync=off'
    sql db 'select 6 * 7'
    sql db 'create table t as select generate_series(1, 10000) as i'
    sql db 'set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set min_parallel_table_scan_size = 0; select sum(i) from t'
    inside db -- sh -c 'ls /dev/shm | grep -c PostgreSQL'
    inside db -- sh -c 'ipcs -m | grep -c postgres'
    inside db -- bash -c 'for i in {1..20}; do psql -h /tmp -Atc "select count(*) from t" postgres & done | sort | uniq -c; wait' 
    if [[ $ENGINE != ctr ]]; then
        restart db
        sql db 'select count(*) from t'
    fi
    finish db INT
    echo "ready: $(logs db | grep -c 'database system is ready')"
    remove db
}

sql() {
    inside "$1" --user=postgres -- await psql -h /tmp -Atc "$2" postgres
}

workload_mariadb() {
    : "mariadb: its tables made as its user, asynchronous I/O, queries over the socket, shutdown"
    : services
    start db --user=mysql -- sh -c 'mariadb-install-db --datadir=/tmp/data --auth-root-authentication-method=normal --skip-test-db >/tmp/log 2>&1 || cat /tmp/log
        exec mariadbd --datadir=/tmp/data --socket=/tmp/sock --pid-file=/tmp/pid --innodb-buffer-pool-size=16M'
    inside db --user=mysql -- await mariadb --socket=/tmp/sock --user=root -e 'select 6 * 7 as answer'
    inside db --user=mysql -- mariadb --socket=/tmp/sock --user=root -e '
        create database d; create table d.t (i int primary key, s varchar(20)) engine=innodb; insert into d.t values (1, "one"), (2, "two");
        select count(*), max(s) from d.t; select @@innodb_use_native_aio'
    finish db TERM
    echo "complete: $(logs db | grep -c 'Shutdown complete')"
    remove db
}
