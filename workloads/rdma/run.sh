#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -a rdma_rxe siw ib_uverbs ib_umad rdma_cm rdma_ucm dummy; modprobe -aq ib_ipoib ib_srp ib_srpt ib_iser ib_isert rds_rdma smc nvme-rdma nvmet-rdma rtrs-client rtrs-server rpcrdma; ip link add d0 type dummy; ip link set d0 up; ip addr add 10.0.0.1/24 dev d0 ;;
run)
	s=0
	rdma link add r0 type rxe netdev d0 || s=1
	rdma link show >/dev/null || s=1
	rdma resource show >/dev/null || s=1
	rdma link del r0 || s=1
	rdma link add s0 type siw netdev d0 || s=1
	rdma link del s0 || s=1
	exit $s
	;;
cleanup) rdma link del r0 2>/dev/null; rdma link del s0 2>/dev/null; : ;;
esac
