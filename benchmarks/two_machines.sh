#!/usr/bin/env bash
# The lines of docs/cluster.md, with two processes of this machine standing for two machines:
#     bash benchmarks/two_machines.sh [ray|accelerate]
set -euo pipefail
what=${1:-all}
here=$(mktemp -d)
trap 'ray stop --force > /dev/null 2>&1 || true; rm -rf "$here"' EXIT

if [ "$what" != accelerate ]; then
    # Two nodes: each has a raylet of its own; a worker of one CPU each cannot fit both on one of them.
    ray start --head --port 6399 --num-cpus 1 --include-dashboard false --object-store-memory 100000000 > "$here/first"
    ray start --address 127.0.0.1:6399 --num-cpus 1 --object-store-memory 100000000 > "$here/second"
    handi world --clips 4 --size 32 --seed 20 --executor ray --ray-address 127.0.0.1:6399 --workers 2 --out "$here/ray"
    handi world --clips 4 --size 32 --seed 20 --workers 1 --out "$here/one"
    diff -r "$here/ray" "$here/one"
    echo "ray: two nodes made the same files as one process"
    ray stop --force > /dev/null 2>&1 || true
fi
if [ "$what" != ray ]; then
    handi world --clips 4 --size 32 --workers 1 --prepare "$here/clips"
    train=(-m handi train mini_vae --data.path "$here/clips" --data.validation null --data.workers 0
        --run.device cpu --run.steps 2 --optim.batch 1 --run.out "$here/run")
    launch=(accelerate launch --cpu --num_machines 2 --num_processes 2 --main_process_ip 127.0.0.1
        --main_process_port 29577)
    "${launch[@]}" --machine_rank 1 "${train[@]}" &
    "${launch[@]}" --machine_rank 0 "${train[@]}"
    wait $!
    ls "$here/run/model"
    echo "accelerate: two machines trained one model"
fi
