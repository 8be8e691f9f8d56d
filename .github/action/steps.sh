#!/usr/bin/env bash
# The steps of action.yml: install, run or compare, report, summary, gate with annotations. Also runs on any machine:
#   INPUT_MODEL=… INPUT_STRATEGIES=int8 INPUT_OUT=run INPUT_INSTALL= .github/action/steps.sh
# Inputs are INPUT_* variables; lists hold one value a line. Ends with the gate's status as INPUT_FAIL_ON asks, with 2 for
# a mistake, or with the status of a run that could not be made at all.
set -euo pipefail

out=${INPUT_OUT:-tiltmeter-run} fail_on=${INPUT_FAIL_ON:-unjudged}
case $fail_on in broken | unjudged | never) ;; *) echo "tiltmeter: fail-on is broken, unjudged or never, not $fail_on" >&2; exit 2 ;; esac
case ${INPUT_DRY_RUN:-false} in true | false) ;; *) echo "tiltmeter: dry-run is true or false, not $INPUT_DRY_RUN" >&2; exit 2 ;; esac

append() {  # LIST OPTION LINES: to the list, per line that is not empty, the option (if any) and the line
  local -n list=$1
  local line
  while IFS= read -r line; do
    line="${line#"${line%%[![:space:]]*}"}" line="${line%"${line##*[![:space:]]}"}"
    [ -z "$line" ] || list+=(${2:+"$2"} "$line")
  done <<< "$3"
}
if [ -n "${INPUT_VARIANTS:-}" ]; then
  [ -z "${INPUT_STRATEGIES:-}" ] || { echo "tiltmeter: give strategies or variants, not both" >&2; exit 2; }
  words=(compare "$INPUT_MODEL")
  append words "" "$INPUT_VARIANTS"
else
  words=(run "$INPUT_MODEL")
  append words --strategy "${INPUT_STRATEGIES:-}"
fi
append words --benchmark "${INPUT_BENCHMARKS:-}"
append words "" "${INPUT_ARGUMENTS:-}"
append words --limit "${INPUT_LIMIT:-}"
append words --data "${INPUT_DATA:-}"
words+=(--out "$out")
policy=()
append policy --policy "${INPUT_POLICY:-}"

if [ -n "${INPUT_INSTALL:-}" ]; then python -m pip install --quiet -- "$INPUT_INSTALL"; fi
if [ "${INPUT_DRY_RUN:-false}" = true ]; then
  tiltmeter "${words[@]}" --dry-run
  exit 0
fi
if [ -z "${INPUT_DATA:-}" ]; then  # what is there is not fetched again
  names=()
  append names "" "${INPUT_BENCHMARKS:-}"
  tiltmeter data fetch "${names[@]}"
fi

status=0
tiltmeter "${words[@]}" || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"  # 3: some cells failed; the gate names them
tiltmeter report "$out"
tiltmeter export "$out" --to badge "${policy[@]}"
tiltmeter report "$out" --markdown >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
gate=0
tiltmeter gate "$out" "${policy[@]}" --junit "$out/gate.xml" --github || gate=$?
{ echo "gate=$gate"; echo "report=$out/report.html"; } >> "${GITHUB_OUTPUT:-/dev/stdout}"
case $gate:$fail_on in
  0:* | 1:never | 3:never | 3:broken) exit 0 ;;
  *) exit "$gate" ;;
esac
