-- The newest results of a stage: the model is offered the values that they have (ledger/reports/used_values.py).

create index results_newest on results (stage, result_id) where superseded_at is null and outcome = 'ok';
