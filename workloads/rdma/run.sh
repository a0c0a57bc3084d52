#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

case $1 in
setup)
	modprobe -a rdma_rxe ib_uverbs ib_umad rdma_cm rdma_ucm dummy || exit
	modprobe -aq ib_ipoib ib_srp ib_srpt ib_iser ib_isert rds_rdma smc nvme-rdma nvmet-rdma rtrs-client rtrs-server rpcrdma
	ip link add d0 type dummy
	ip link set d0 up && ip addr add 10.0.0.1/24 dev d0
	;;
run) rdma link add r0 type rxe netdev d0 && rdma link del r0 ;;
cleanup) rdma link del r0 2>/dev/null; : ;;
esac
