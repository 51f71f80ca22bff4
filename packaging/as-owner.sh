#!/bin/sh
# as-owner.sh COMMAND...: run COMMAND as the owner of the checkout.
# `sudo make run` in a person's checkout would otherwise leave root's files there, and that
# person's next plain `make` would fail on them.
set -eu

cd "$(dirname "$0")/.."
uid=$(stat -c %u Makefile)
gid=$(stat -c %g Makefile)

if [ "$(id -u)" != 0 ] || [ "$uid" = 0 ]; then
	exec "$@"
fi
for made in build .deps; do
	if [ -e "$made" ] && [ "$(stat -c %u "$made")" != "$uid" ]; then
		chown -R "$uid:$gid" "$made"
	fi
done
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups -- "$@"
