"""MMLU: a folder ``dev``, ``val`` or ``test`` with one CSV file a subject: question, four options, letter; no header.

The folder ``auxiliary_train`` is of other data sets and is not read. Exports have ``question``, ``subject``, ``choices`` and ``answer`` (the option's number from 0, or its letter) a line;
on the hub each subject is a folder with its parts (``anatomy/test-00000-of-00001.parquet``), and the folder ``all`` holds all of them once more.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from jobs.datasets import files
from jobs.datasets.base import Dataset, File, Item, gold_letter, has, shardless, text, texts, unknown_form, with_options

_FILE = re.compile(r"(.+)_(dev|val|test)")
# By name: a folder "all", "train" or "v2" is no subject, and its rows may be of any.
_SUBJECTS = frozenset(
    """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
    college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
    econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
    high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
    high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
    human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
    medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
    professional_accounting professional_law professional_medicine professional_psychology public_relations
    security_studies sociology us_foreign_policy virology world_religions
    """.split()
)


def _item(record: Any, file: File) -> Item:
    if isinstance(record, list):
        if len(record) != 6:
            raise ValueError(f"found {len(record)} cells; wanted 6: question, A, B, C, D, letter")
        question, *options, answer = record
        return Item(file.task, with_options(question, options), gold_letter(answer.strip(), 4))
    if not has(record, "question", "choices", "answer") or not (has(record, "subject") or file.task):
        raise unknown_form(record, "question, choices, answer, subject", "CSV with six cells a line")
    options, answer = texts(record, "choices"), record["answer"]
    label = chr(ord("A") + answer) if isinstance(answer, int) and 0 <= answer < 26 else str(answer)
    task = text(record, "subject") if has(record, "subject") else file.task
    return Item(task, with_options(text(record, "question"), options), gold_letter(label, len(options)))


def _task(name: str) -> str:
    if subject := _FILE.fullmatch(shardless(name)):
        return subject[1]
    return next((folder for folder in reversed(PurePosixPath(name).parts[:-1]) if folder in _SUBJECTS), "")


def _part(name: str) -> str:
    subject = _FILE.fullmatch(shardless(name))
    return subject[2] if subject else shardless(name)


def _records(found: files.Found) -> Any:
    return files.csv_records(found) if found.name.endswith(".csv") else files.records(found)


DATASET = Dataset(
    name="mmlu",
    title="MMLU",
    source="https://github.com/hendrycks/test",
    # auxiliary_train has an mc_test.csv, which is no test of a subject "mc".
    wanted=re.compile(
        r"(?!(?:.*/)?auxiliary_train[/.-])(?:.*/)?(?:[^/]+_(?:dev|val|test)\.csv|[^/]+\.(?:jsonl|parquet))"
    ),
    item=_item,
    task=_task,
    part=_part,
    records=_records,
)
