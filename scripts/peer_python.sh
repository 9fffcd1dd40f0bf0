# To be sourced in the repository's root: leaves in PYTHON an interpreter with what peer_requirements.txt lists, the caller's own or a
# throw-away one made with pip.
if [ -z "${PYTHON:-}" ]; then
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r scripts/peer_requirements.txt
  PYTHON=$venv/bin/python
fi
