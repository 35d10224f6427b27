#!/bin/sh
# Unpacks what vault.py needs of Debian's packages into .packages, without installing anything. Of python3-azure, which
# holds all of Azure's SDK, only the few parts that are used.
set -eu
cd "$(dirname "$0")"
[ -e .packages/done ] && exit 0
rm -rf .packages && mkdir -p .packages/deb .packages/root
cd .packages/deb
apt-get update -qq
apt-get download -qq -o APT::Sandbox::User=root python3-azure python3-msal python3-msal-extensions python3-portalocker python3-jwt \
	python3-cryptography python3-cffi-backend python3-requests python3-urllib3 python3-chardet python3-charset-normalizer \
	python3-idna python3-certifi python3-six python3-typing-extensions python3-isodate python3-msrest python3-requests-oauthlib python3-oauthlib
for deb in *.deb; do
	case $deb in
	python3-azure_*)
		at=./usr/lib/python3/dist-packages/azure
		dpkg-deb --fsys-tarfile "$deb" | tar x -C ../root --wildcards "$at/core*" "$at/identity*" "$at/keyvault/secrets*" "$at/profiles*" "$at/__init__.py"
		;;
	*) dpkg-deb -x "$deb" ../root ;;
	esac
done
cd .. && rm -rf deb && touch done
