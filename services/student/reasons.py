"""The reasons that only the student service gives."""

from __future__ import annotations

from services.common.errors import register_reason

QUESTION_TOO_LONG = register_reason(
    "QUESTION_TOO_LONG",
    "The question alone does not fit the student's context.",
    "Shorten the question, ask for fewer new tokens, or serve a student with a longer context.",
)
ADAPTER_NOT_FOUND = register_reason(
    "ADAPTER_NOT_FOUND",
    "The artifact store has no such version of an adapter.",
    "Check id and version; a run's publish stage says under which name it published.",
)
ADAPTER_NOT_LOADED = register_reason(
    "ADAPTER_NOT_LOADED",
    "The version is not loaded here, or could not be loaded again after a restart.",
    "Call LoadAdapter with its name: it says what is wrong where it fails.",
)
ADAPTER_BASE_MISMATCH = register_reason(
    "ADAPTER_BASE_MISMATCH",
    "The adapter was trained on another base model than the one that is served.",
    "Serve the base model that the manifest names, or train the adapter on this one.",
)
ADAPTER_DAMAGED = register_reason(
    "ADAPTER_DAMAGED",
    "A file of the adapter is missing, or is not what its manifest says.",
    "Publish the adapter again; the run's artifacts still hold it.",
)
ADAPTER_UNSUPPORTED = register_reason(
    "ADAPTER_UNSUPPORTED",
    "The adapter is of a kind that is not served, or does not fit the base model.",
    "Train plain LoRA on linear layers and save it as safetensors.",
)
ADAPTER_IN_USE = register_reason(
    "ADAPTER_IN_USE",
    "An alias stands for the version that was to be unloaded.",
    "Point the alias at another version, or remove it, first.",
)
ALIAS_NOT_FOUND = register_reason(
    "ALIAS_NOT_FOUND", "No such alias is set.", "Call ListAdapters to see the aliases, or SetAlias to make it."
)
ARTIFACTS_UNAVAILABLE = register_reason(
    "ARTIFACTS_UNAVAILABLE",
    "The artifact store cannot be read or written.",
    "Check NESYCD_STUDENT_ARTIFACTS_URL, the credentials and the network; repeat when the store is back.",
)
REGISTRY_DAMAGED = register_reason(
    "REGISTRY_DAMAGED",
    "What is loaded and the aliases cannot be read: a file in students/ of the artifact store is damaged.",
    "Restore the file that the message names; or stop all students and remove it, to start with the state before it.",
)
KNOWLEDGE_UNAVAILABLE = register_reason(
    "KNOWLEDGE_UNAVAILABLE",
    "The knowledge service cannot be reached, or fails.",
    "Repeat after the time in retry_info; `nesycd doctor` tells what is down.",
)
KNOWLEDGE_REFUSED = register_reason(
    "KNOWLEDGE_REFUSED",
    "The student may not call the knowledge service, or the two speak different versions of the contract.",
    "Check NESYCD_STUDENT_PEER_TOKEN and the other NESYCD_STUDENT_PEER_ settings (TLS), and that both services are of the same release.",
)
KNOWLEDGE_NOT_CONFIGURED = register_reason(
    "KNOWLEDGE_NOT_CONFIGURED",
    "The request names a knowledge base, and the student was started without a knowledge service.",
    "Set NESYCD_STUDENT_KNOWLEDGE_ADDRESS, or ask with retrieval.disabled.",
)
ENGINE_UNAVAILABLE = register_reason(
    "ENGINE_UNAVAILABLE",
    "The server that writes for the student cannot be reached, is overloaded, fails, or does not answer as it should.",
    "Repeat after the time in retry_info; look at the log of the server at NESYCD_STUDENT_ENGINE_URL where it lasts.",
)
ENGINE_REFUSED = register_reason(
    "ENGINE_REFUSED",
    "The server that writes for the student refuses the key, the model or the request.",
    "Check NESYCD_STUDENT_ENGINE_URL, NESYCD_STUDENT_ENGINE_API_KEY and NESYCD_STUDENT_ENGINE_MODEL.",
)
ENGINE_WITHOUT_PROBABILITIES = register_reason(
    "ENGINE_WITHOUT_PROBABILITIES",
    "A gate needs to know how probable the answer's tokens are, and the server that writes for the student does not tell.",
    "Ask without retrieval.gate, or serve the student by a server that returns logprobs.",
)
ADAPTER_NOT_ON_ENGINE = register_reason(
    "ADAPTER_NOT_ON_ENGINE",
    "The server that writes for the student does not have the adapter, and did not load it.",
    "Let it load adapters at run time, or give it the adapter at its start and name it in NESYCD_STUDENT_ENGINE_MODELS.",
)
