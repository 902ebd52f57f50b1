"""Holds a report of the conformance suite against what is expected.

    check.py REPORT/index.json EXPECTED

Every case must end with behaviour and close OK, but those that EXPECTED lists:
a case (or a glob of them), how it ends, and why that is right here. A listed case
that ends otherwise, well or badly, fails too.
"""

import fnmatch
import json
import sys


def expectations(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            parts = line.split(None, 2)
            if len(parts) != 3:
                sys.exit(f"{path}:{number}: a line is: CASES ENDING WHY")
            yield parts


def ending(result):
    behavior, close = result["behavior"], result["behaviorClose"]
    if behavior == "OK" and close not in ("OK", "INFORMATIONAL"):
        return close.replace(" ", "-")
    return behavior


def main(report, expected):
    with open(report, encoding="utf-8") as file:
        (results,) = json.load(file).values()
    rules = list(expectations(expected))
    used = set()
    wrong, deviating = [], 0
    for case, result in results.items():
        found = ending(result)
        rule = next((at for at, (cases, *_) in enumerate(rules) if fnmatch.fnmatchcase(case, cases)), None)
        wanted = ("OK", "INFORMATIONAL") if rule is None else (rules[rule][1],)
        if rule is not None:
            used.add(rule)
            deviating += 1
        if found not in wanted:
            wrong.append(f"{case}: {found}, expected {' or '.join(wanted)}; {json.dumps(result)}")
    for at, (cases, *_) in enumerate(rules):
        if at not in used:
            wrong.append(f"{cases}: listed in {expected}, and no case of the suite")
    print(f"{len(results)} cases, {deviating} of them deviate as expected, {len(wrong)} wrong")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
