#!/usr/bin/env bash
# A Slurm cluster of one node on this machine: controller, node and munge of its own, all under FOLDER, no root needed.
#
#   slurm_node.sh start FOLDER CONTROLLER_PORT NODE_PORT    exports for the caller's environment on stdout
#   slurm_node.sh stop FOLDER
#
# Exits with 1 and one sentence on stderr where it cannot start; the daemons' logs are in FOLDER.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
action=$1 folder=$2
conf="$folder/slurm.conf"

stop() {
    for name in slurmd slurmctld munged; do
        if [ -s "$folder/$name.pid" ]; then
            kill "$(cat "$folder/$name.pid")" 2> /dev/null || true
        fi
    done
    # A step that was running asks for its controller for ever.
    for process in $(pgrep -x srun || true); do
        if tr '\0' '\n' < "/proc/$process/environ" 2> /dev/null | grep -qx "SLURM_CONF=$conf"; then
            kill -9 "$process" 2> /dev/null || true
        fi
    done
}

fail() {
    echo "$1" >&2
    stop
    exit 1
}

if [ "$action" = stop ]; then
    stop
    exit 0
fi

controller_port=$3 node_port=$4
for name in munged slurmctld slurmd sbatch; do
    command -v "$name" > /dev/null || fail "$name is not installed (Debian: slurm-wlm, munge)"
done
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool"
chmod 700 "$folder"
head -c 64 /dev/urandom > "$folder/munge.key"
chmod 600 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" || fail "munged does not start"

# Two CPUs whatever the machine has; a requeued job starts at once instead of after two minutes (cred_expire).
cat > "$conf" << END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF="$conf"
# Where the caller is killed, its cluster goes too.
(while kill -0 "$PPID"; do sleep 2; done; bash "$0" stop "$folder") > /dev/null 2>&1 < /dev/null &
slurmctld -f "$conf" > "$folder/slurmctld.out" 2>&1 || fail "slurmctld does not start: $(tail -n 1 "$folder/slurmctld.out")"
slurmd -f "$conf" > "$folder/slurmd.out" 2>&1 || fail "slurmd does not start: $(tail -n 1 "$folder/slurmd.out")"
for _ in $(seq 50); do
    if sinfo -h -t idle -o %T 2> /dev/null | grep -q idle; then
        echo "SLURM_CONF=$conf"
        exit 0
    fi
    sleep 0.2
done
fail "the node does not become idle: $(tail -n 1 "$folder/slurmd.log" "$folder/slurmctld.log" | tr '\n' ' ')"
