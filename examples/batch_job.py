"""
Work outside HTTP: a nightly job retrieves scores in bulk, and records each for the company that ordered it.

Requires:    nothing but meterkit
To install:  pip install meterkit
To run:      python batch_job.py acme ada grace linus
Then:        meterkit usage billing:kit
"""

from __future__ import annotations

import sys

from billing import credit_scores, kit
from bureau import BureauDownError, UnknownPersonError, retrieve_score


def main(company: str, people: list[str]) -> None:
    """Print the score of each person; *company* pays for the scores that were found."""
    for person in people:
        try:
            score = retrieve_score(person)
        except (UnknownPersonError, BureauDownError) as error:
            print(f"{person}: {type(error).__name__}")
            continue
        print(f"{person}: {score}")
        kit.record(credit_scores, company)
    kit.close()  # flushes now instead of at exit; nothing is lost without it


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
