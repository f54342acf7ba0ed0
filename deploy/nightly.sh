#!/usr/bin/env bash
# What the service gathered becomes a new run; see "Every night" in docs/deploy.md.
# Whatever fails ends it, and the run that is served stays. Settings: reelm.toml, if it is there.
set -euo pipefail
cd "${REELM_HOME:-/srv/reelm}"
backend="${REELM_BACKEND:-pocket}" prompt="${REELM_PROMPT:-attributes}"
encoder="${REELM_ENCODER:-text}" model="${REELM_MODEL:-sasrec}"

made() { # a command's words go to the log, its last line, the folder it made, to us
  local told
  told=$(reelm "$@" ${settings:+--settings "$settings"})
  printf '%s\n' "$told" >&2
  printf '%s\n' "${told##*$'\n'}"
}

settings=""
if [ -f reelm.toml ]; then settings=reelm.toml; fi
log=$(made gather)
catalog=$(made ingest "$log" --map value=value) # portions it is, however long people watched
notes=$(made annotate --backend "$backend" --prompt "$prompt" --catalog "$catalog")
vectors=$(made encode --encoder "$encoder" --input notes --notes "$notes" --catalog "$catalog")
made train --model "$model" --set model.items=both --features "text=$vectors" \
  --notes "$notes" --catalog "$catalog"
