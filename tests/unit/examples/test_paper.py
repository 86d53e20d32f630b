"""The paper's runs are specs that parse, with the paper's figures, and one apart from another only where the paper is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.specs import load_spec
from jobs.artifacts import Artifacts
from jobs.datasets import DATASETS
from jobs.datasets.agieval import SETS
from jobs.datasets.descriptions import describe
from jobs.estimate import estimate
from jobs.spec import RunSpec, parse

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "paper"
# student: learning rate, longest row
STUDENTS = {
    "tinyllama-1.1b": (2e-4, 2048),
    "llama-2-7b": (1e-4, 4096),
    "llama-3-8b": (5e-5, 4096),
    "qwen2-0.5b": (2e-4, 4096),
    "qwen2-1.5b": (1e-4, 4096),
    "qwen2-7b": (1e-4, 4096),
}
# What the data sets of the specs consist of, but for BBH (whose tasks descriptions.py knows) and BB-sub (whose tasks are the user's).
TASKS = {
    "metamathqa": ["gsm", "math"],
    "mmlu": """abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
        college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
        econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
        high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
        high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
        high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
        human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
        medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory professional_accounting
        professional_law professional_medicine professional_psychology public_relations security_studies sociology
        us_foreign_policy virology world_religions""".split(),
    "gsm8k": ["gsm8k"],
    "agieval": list(SETS),
    "gsm8k-plus": """numerical_substitution digit_expansion integer_decimal_fraction_conversion adding_operation reversing_operation
        problem_understanding distraction_insertion""".split(),
    "arc-easy": ["arc-easy"],
    "arc-challenge": ["arc-challenge"],
}


def read(student: str) -> RunSpec:
    return parse(load_spec(FOLDER / f"{student}.yaml"))


def test_there_is_a_spec_for_each_of_the_papers_students_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(STUDENTS)


@pytest.mark.parametrize("student", STUDENTS)
def test_a_spec_has_the_papers_figures(student: str) -> None:
    spec, (rate, longest) = read(student), STUDENTS[student]
    assert spec.student.base_model == student
    training = spec.training
    assert (training.recipe, training.start_from) == ("paper", "general")
    assert (training.general.epochs, training.general.learning_rate, training.general.batch_size) == (10, rate, 32)
    assert (training.augmented.epochs, training.augmented.learning_rate, training.augmented.batch_size) == (3, rate, 8)
    assert (training.lora.rank, training.lora.alpha, training.lora.dropout) == (32, 64, 0)
    assert (training.max_length, training.schedule, training.warmup, training.weight_decay) == (
        longest,
        "cosine",
        0.1,
        0,
    )
    assert (spec.knowledge.granularity, spec.knowledge.show_gold_answer, spec.knowledge.top_k) == ("case", False, 1)
    assert (spec.teacher.temperature, spec.teacher.max_tokens) == (0.8, 2048)
    evaluate = spec.evaluate
    assert (evaluate.temperature, evaluate.sample_top_k, evaluate.top_p, evaluate.max_new_tokens) == (
        0.6,
        50,
        0.9,
        1024,
    )


@pytest.mark.parametrize("student", STUDENTS)
def test_a_spec_reads_the_papers_data_from_the_folder_beside_it(student: str) -> None:
    spec = read(student)
    sources = [*spec.data.sources("train"), *spec.data.sources("test")]
    assert all(Path(source.path).is_relative_to(FOLDER / "data") for source in sources)
    assert {source.dataset for source in sources} - {"rows"} == set(DATASETS) - {"bbh"}
    assert sum("bbh" in source.path for source in sources) == 2
    assert len(spec.data.sources("test")) == 7


@pytest.mark.parametrize("student", STUDENTS)
def test_a_spec_describes_every_task_that_is_known_and_as_the_command_does(student: str) -> None:
    told = read(student).student.task_descriptions
    tasks = TASKS | {"bbh": list(told)[:27]}  # the first lines of the spec
    assert sum(map(len, tasks.values())) == len(told) == 104
    assert told == {task: describe(dataset, task) for dataset, names in tasks.items() for task in names}
    assert len({told[task] for task in tasks["bbh"]}) == 27  # a line of its own each, none the data set's


def test_a_dry_run_says_what_the_papers_run_takes_without_any_weights(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "mmlu/dev").mkdir(parents=True)
    (data / "bb-sub/odd").mkdir(parents=True)

    def write(name: str, *records: object) -> None:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("".join(json.dumps(one) + "\n" for one in records))

    for name in ("bbh-train.jsonl", "bbh-test.jsonl"):
        write(name, {"id": f"bbh/navigate/{name}", "task": "navigate", "question": "q", "answer": "Yes"})
    write("MetaMathQA-395K.json", {"query": "q", "response": "The answer is: 1", "type": "GSM_a"})
    for part in ("dev", "val"):
        (data / "mmlu" / part).mkdir(exist_ok=True)
        (data / "mmlu" / part / f"anatomy_{part}.csv").write_text("q,a,b,c,d,A\n")
    write("gsm8k/test.jsonl", {"question": "q", "answer": "#### 3"})
    write("bb-sub/odd/task.json", {"examples": [{"input": "q", "target": "a"}]})
    write("agieval/lsat-ar.jsonl", {"question": "q", "options": ["(A)x", "(B)y"], "label": "A"})
    write("gsmplus_testmini.jsonl", {"question": "q", "answer": "3", "perturbation_type": "adding operation"})
    choices = [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]
    for title in ("Easy", "Challenge"):
        write(f"ARC-{title}-Test.jsonl", {"id": "1", "question": {"stem": "s", "choices": choices}, "answerKey": "B"})
    for student in STUDENTS:
        shutil.copy(FOLDER / f"{student}.yaml", tmp_path)
        made = estimate(parse(load_spec(tmp_path / f"{student}.yaml")), Artifacts(f"file://{tmp_path}/artifacts"), {})
        assert made.parameters > 400e6 and made.training_memory_bytes > 0 and made.serving_memory_bytes > 0
        assert {stage.name: stage.rows for stage in made.stages}["train-general"] == 4
