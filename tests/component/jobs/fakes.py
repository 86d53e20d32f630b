"""The four services that stages call, as small as can be, over real gRPC: what they are asked is counted, and faults are ordered."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from nesycd.extraction import v1 as extraction
from nesycd.knowledge import v1 as knowledge
from nesycd.student import v1 as student
from nesycd.teacher import v1 as teacher

from method.prompts import read_messages
from services.common.errors import NesycdError
from services.common.rows import row_status
from tests.processes import free_port


class House:
    """All services behind one port.

    Attributes:
        answers: Gold answer by question; the teacher knows them.
        asked: How often each row was asked, by (service, row).
        calls: How often each unary method was called, with what.
        seconds_a_row: How slow teacher and student are.
        teacher_error: What the teacher answers instead of rationales.
        on_answer: Called with each question that the student is asked; its answer waits for that.
    """

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: Counter[tuple[str, str]] = Counter()
        self.calls: list[tuple[str, Any]] = []
        self.seconds_a_row = 0.0
        self.teacher_error: NesycdError | None = None
        self.on_answer: Callable[[str], object] = lambda question: None
        self.entries: dict[str, str] = {}
        self.port = free_port()
        self._held: list[threading.Event] = []
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> House:
        self._server = grpc.server(ThreadPoolExecutor(16))
        teacher.add_TeacherServiceServicer_to_server(Teacher(self), self._server)
        student.add_StudentServiceServicer_to_server(Student(self), self._server)
        knowledge.add_KnowledgeServiceServicer_to_server(Knowledge(self), self._server)
        extraction.add_ExtractionServiceServicer_to_server(Extraction(self), self._server)
        self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def hold(self, question: str) -> threading.Event:
        """Leaves a question to the student, and those after it, without an answer until the event is set."""
        go_on = threading.Event()
        self._held.append(go_on)
        self.on_answer = lambda asked: asked == question and go_on.wait()
        return go_on

    def stop(self) -> None:
        """As if all services were killed: calls break off."""
        for go_on in self._held:
            go_on.set()
        if self._server:
            self._server.stop(None).wait(5)

    def called(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]


class Teacher(teacher.TeacherServiceServicer):
    def __init__(self, house: House) -> None:
        self._house = house

    def BatchGenerate(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        house = self._house
        for row in request_iterator:
            said = read_messages([{"role": m.role, "content": m.content} for m in row.request.messages])
            house.asked[said["task"], row.row_id] += 1
            time.sleep(house.seconds_a_row)
            if house.teacher_error:
                yield teacher.BatchGenerateResponse(row_id=row.row_id, error=row_status(house.teacher_error))
                continue
            answer = house.answers[said["question"]]
            text = f"One counts. Therefore, the answer is {answer}."
            if said["task"] == "counterfactual":
                other = str(int(answer) + 1)
                text = json.dumps(
                    {"entry_index": 1, "entry": f"It is {other}.", "rationale": f"It is {other}.", "answer": other}
                )
            yield teacher.BatchGenerateResponse(
                row_id=row.row_id, response=teacher.GenerateResponse(text=text, call="calls/1")
            )

    def GetUsage(self, request: Any, context: grpc.ServicerContext) -> Any:
        paid = sum(count for (kind, _), count in self._house.asked.items() if kind == "rationale")
        usage = teacher.Usage(prompt_tokens=10 * paid, completion_tokens=paid, cost_usd=0.01 * paid)
        return teacher.GetUsageResponse(rows=[teacher.UsageRow(calls=paid, usage=usage)], total=usage)


class Student(student.StudentServiceServicer):
    def __init__(self, house: House) -> None:
        self._house = house

    def BatchAnswer(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        house = self._house
        for row in request_iterator:
            asked = row.request
            house.asked[asked.adapter, asked.question] += 1
            house.on_answer(asked.question)
            time.sleep(house.seconds_a_row)
            texts = list(asked.given_entries)
            if asked.retrieval.knowledge_base:
                texts = ["It is 5."]
            # Without knowledge it is wrong; with it it follows what it reads.
            answer = texts[0].removeprefix("It is ").rstrip(".") if texts else "0"
            response = student.AnswerResponse(
                answer=answer, text=f" Therefore, the answer is {answer}.",
                entries=[student.UsedEntry(name=f"{asked.retrieval.knowledge_base}/entries/1", text=text) for text in texts],
            )  # fmt: skip
            yield student.BatchAnswerResponse(row_id=row.row_id, response=response)

    def LoadAdapter(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._house.calls.append(("LoadAdapter", request))
        return student.LoadAdapterResponse(adapter=student.Adapter(name=request.adapter))

    def UnloadAdapter(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._house.calls.append(("UnloadAdapter", request))
        return student.UnloadAdapterResponse()

    def SetAlias(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._house.calls.append(("SetAlias", request))
        return student.SetAliasResponse(alias=request.alias)


class Knowledge(knowledge.KnowledgeServiceServicer):
    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()

    def CreateKnowledgeBase(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._house.calls.append(("CreateKnowledgeBase", request))
        return knowledge.CreateKnowledgeBaseResponse()

    def BatchSearchEntries(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for row in request_iterator:
            assert row.request.exclude_sole_source_case == row.row_id
            found = knowledge.SearchResult(
                entry=knowledge.Entry(name=f"{row.request.parent}/entries/1", text="It is 5.")
            )
            yield knowledge.BatchSearchEntriesResponse(
                row_id=row.row_id, response=knowledge.SearchEntriesResponse(results=[found])
            )

    def ExportEntries(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        entry = {"name": f"{request.parent}/entries/1", "kind": "ENTRY_KIND_FACT", "text": "It is 5."}
        yield knowledge.ExportEntriesResponse(data=(json.dumps(entry) + "\n").encode())
        for options, content in self._house.called("ImportEntries"):
            if options.parent == request.parent and options.author == "passages":
                yield knowledge.ExportEntriesResponse(data=content)

    def ImportEntries(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        messages = list(request_iterator)
        self._house.calls.append(("ImportEntries", (messages[0].options, b"".join(m.data for m in messages[1:]))))
        return knowledge.ImportEntriesResponse(created=1)

    def RecordFeedback(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._house.calls.append(("RecordFeedback", request))
        return knowledge.RecordFeedbackResponse()


class Extraction(extraction.ExtractionServiceServicer):
    def __init__(self, house: House) -> None:
        self._house = house

    def BatchExtractKnowledge(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for row in request_iterator:
            self._house.asked["extract", row.hard_case.case_id] += 1
            response = extraction.ExtractKnowledgeResponse(created=1, attempts=1, teacher_call="calls/2")
            yield extraction.BatchExtractKnowledgeResponse(case_id=row.hard_case.case_id, response=response)
