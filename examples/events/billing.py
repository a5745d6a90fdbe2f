"""
The kit that counts what the programs beside this file send: one event for each credit score that was delivered.

    pip install 'meterkit[serve]'
    export METERKIT_SERVICE_KEYS='{"score-api": "a-secret-of-the-score-api"}'
    meterkit serve billing:kit --port 8700
"""

from __future__ import annotations

from meterkit import Meter, MeterKit, Price, Tier

credit_scores = Meter("credit_scores", event_type="credit-score")

kit = MeterKit(
    meters=[credit_scores],
    prices=[
        Price.graduated(
            credit_scores,
            Tier(up_to=100, unit_price="5.00"),
            Tier(up_to=1_000, unit_price="3.00"),
            Tier(unit_price="2.00"),
        )
    ],
)
