# probe.bash: for the bats files that test file operations which a shell cannot perform.
#
#   probe CLAIM [ARGUMENT...]  one function of tests/tools/probe_*.py on $MNT; fails as it does.
#                              PROBE_LIMIT: its time limit in seconds
#   has_tmpfile                true if O_TMPFILE can reach the daemon: from libfuse 3.17 on

probe()
{
	timeout -k 5 "${PROBE_LIMIT:-60}" \
		python3 "$ROOT/tests/tools/probe.py" "$1" "$MNT" "${@:2}" 3>&-
}

has_tmpfile()
{
	local minor
	minor=$("$CTXFS" -V | sed -n 's/.*libfuse 3\.\([0-9]*\).*/\1/p')
	[ "${minor:-99}" -ge 17 ]
}
