#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip tc

case $1 in
setup)
	modprobe dummy
	for m in sch_qfq sch_gred sch_ingress sch_fq_pie sch_codel sch_etf sch_netem sch_prio sch_red sch_taprio sch_drr sch_fq sch_skbprio \
		sch_teql sch_hfsc sch_mqprio sch_choke sch_plug sch_multiq sch_hhf sch_cake sch_cbs sch_sfb sch_pie sch_htb sch_ets sch_sfq \
		sch_tbf cls_u32 cls_route cls_flower cls_flow cls_fw cls_cgroup cls_basic cls_matchall em_nbyte em_cmp em_u32 em_meta \
		act_police act_pedit act_bpf act_skbmod act_nat act_ctinfo act_gate act_tunnel_key act_gact act_mirred act_skbedit act_ct \
		act_vlan act_csum act_simple act_mpls act_sample act_ife act_connmark; do modprobe -q $m; done
	ip link add d0 type dummy && ip link set d0 up
	;;
run)
	s=0
	q() { tc qdisc add dev d0 root handle 1: "$@" 2>/dev/null || { s=1; return; }; tc qdisc del dev d0 root 2>/dev/null || s=1; }
	for k in "qfq" "codel" "fq_codel" "fq_pie" "netem delay 10ms loss 1% reorder 5%" "prio" "drr" "fq" "skbprio" "hfsc default 1" "choke limit 100 bandwidth 1mbit" \
		"hhf" "cake" "sfb" "pie" "htb default 1" "ets bands 4" "sfq perturb 10" "tbf rate 1mbit burst 10k latency 10ms" \
		"red limit 60000 avpkt 1000" "gred setup DPs 4 default 1" "pfifo" "cbs"; do q $k; done
	tc qdisc add dev d0 root handle 1: htb default 1 || s=1
	tc class add dev d0 parent 1: classid 1:1 htb rate 1mbit || s=1
	tc qdisc add dev d0 parent 1:1 handle 2: netem delay 1ms || s=1
	tc filter add dev d0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 1:1 || s=1
	tc filter add dev d0 parent 1: protocol ip prio 2 flower dst_ip 10.0.0.1 action gact drop || s=1
	tc filter add dev d0 parent 1: protocol ip prio 3 matchall action mirred egress redirect dev lo || s=1
	tc filter add dev d0 parent 1: protocol ip prio 5 handle 3 fw classid 1:1 || s=1
	tc filter add dev d0 parent 1: protocol ip prio 6 flow hash keys src divisor 16 || s=1
	tc filter add dev d0 parent 1: protocol ip prio 7 route to 5 classid 1:1 || s=1
	tc qdisc del dev d0 root || s=1
	tc qdisc add dev d0 clsact || s=1
	a() { tc filter add dev d0 ingress protocol ip prio 9 matchall action "$@" 2>/dev/null || { s=1; return; }; tc filter del dev d0 ingress prio 9 protocol ip 2>/dev/null || s=1; }
	a police rate 1mbit burst 10k drop
	a pedit ex munge ip ttl set 5
	a skbmod set dmac 02:00:00:00:00:01
	a nat ingress 10.0.0.1/32 10.0.0.2
	a tunnel_key set src_ip 10.0.0.1 dst_ip 10.0.0.2 id 5 dst_port 4789
	a skbedit mark 5
	a ct zone 5
	a vlan push id 5
	a csum ip
	a simple sdata hello
	a mpls push label 5 protocol mpls_uc
	a sample rate 10 group 5
	a connmark
	a ife encode allow mark dst 02:00:00:00:00:01
	a gate clockid CLOCK_TAI sched-entry open 100000000 -1 -1
	a mirred egress mirror dev lo
	tc qdisc del dev d0 clsact || s=1
	exit $s
	;;
cleanup) tc qdisc del dev d0 root 2>/dev/null; tc qdisc del dev d0 clsact 2>/dev/null; : ;;
esac
