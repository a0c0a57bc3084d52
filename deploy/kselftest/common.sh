# Sourced by the tests. POSIX sh, for busybox. The tests print KTAP version 1 and end with kselftest's codes.

KSFT_PASS=0
KSFT_FAIL=1
KSFT_SKIP=4

injector=./injector
number=0
failed=0

# test_result STATUS NAME: a line for a test, passed if STATUS is 0
test_result() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number $2"
	else
		echo "not ok $number $2"
		failed=$((failed + 1))
	fi
}

# finish: ends with the status for what the tests said
finish() {
	[ "$failed" -eq 0 ] && exit "$KSFT_PASS"
	exit "$KSFT_FAIL"
}

# bail_out WHY: nothing more can be said
bail_out() {
	echo "Bail out! $*"
	exit "$KSFT_FAIL"
}

# comment FILE: shows a file
comment() {
	sed 's/^/# /' "$1"
}

# skip_all REASON
skip_all() {
	echo "1..0 # SKIP $*"
	exit "$KSFT_SKIP"
}

check() {
	"$injector" check >"$work/check" 2>&1
}

# reason: what `injector check` misses, as one line
reason() {
	sed -n 's/^missing  *//p' "$work/check" | sed -e 's/   */: /' -e '2,$s/^/; /' | tr -d '\n'
}

# begin: the first line, and the end if the kernel can't be injected into. The module injector_hooks is loaded if it is needed and
# lies beside the tests; the injector itself loads it from /lib/modules. $work is a directory that is removed at the end.
begin() {
	echo "KTAP version 1"
	work=$(mktemp -d) || bail_out "mktemp -d failed: no room, or \$TMPDIR is no directory"
	trap 'rm -rf "$work"' EXIT
	check
	status=$?
	if [ "$status" -eq 3 ] && [ -f injector_hooks.ko ]; then
		insmod injector_hooks.ko >"$work/insmod" 2>&1 || comment "$work/insmod"
		check
		status=$?
	fi
	case $status in
	0) return ;;
	3)
		comment "$work/check"
		skip_all "$(reason)"
		;;
	*)
		comment "$work/check"
		bail_out "injector check ended with $status"
		;;
	esac
}
