"""What must never get in or out, by every doorway: secrets (I13), and hostile input (faults 51, 53 and 57).

Secrets. Each doorway gets each kind of secret of `planted.py`; afterwards none is in events, views, messages, logs, answers or files
for people.

| doorway | what is planted | tests |
|---|---|---|
| documents: command, register function, API | every field that holds text | test_secrets_in_documents.py, test_secrets_at_doorways.py |
| parameters, notes, reasons, names of files | by hand, by default, by schedule | test_secrets_in_events.py |
| targets: errors, reasons, reports | by executors with and without a token | test_secrets_in_events.py |
| `outputs.json` | of jobs that succeed and fail, here and on AWS | test_secrets_in_events.py, test_secrets_at_doorways.py |
| rendered requests | a secret that only a template puts together | test_secrets_in_events.py |
| every command there is | every text that it has | test_secrets_in_events.py |
| API: path, query, headers, body | problem details, logs | test_secrets_at_doorways.py |
| functions: what escapes, log lines, metrics | exceptions of others, with their causes | test_secrets_at_doorways.py |
| the command: errors, crash files | arguments, documents, exceptions | test_secrets_at_doorways.py |
| values of `secrets` | the job alone gets them | contract/test_executor_process.py, _aws_ssm.py, _aws_ecs.py, _containers.py |

Hostile input. `own` is test_hostile_input.py here; the others are beside what they test.

| doorway | 51: shapes, sizes, names | 53: shell text, templates | 57: other people's things, paths |
|---|---|---|---|
| document: reading | rules/test_workflow_reading.py, rules/test_documents.py | rules/test_documents.py, rules/test_template_safety.py | rules/test_workflow_reading.py (paths of files) |
| upload: register function | own | own | own (keys) |
| files dropped and given to the command | cli/test_documents.py, cli/test_hostile.py, own | own | cli/test_hostile.py |
| API: path, query, cursor, id, header, body | functions/test_api.py, functions/test_api_fuzzed.py, own | own | functions/test_api_access.py, functions/test_api_aws.py, own |
| HTTP on one machine | engine/test_http.py | – | engine/test_http.py |
| messages of the queue | functions/test_doorways.py, own | own | own (runs of nobody) |
| events of targets, the stream, rings | own | own | own (foreign tasks) |
| `outputs.json`, files of jobs | own, contract/test_executor_process.py | own | contract/test_artifacts.py, contract/test_executor_process.py |
| output and logs of jobs | contract/test_logs.py | cli/test_hostile.py (control characters) | contract/test_logs.py, contract/test_logs_emr.py |
| arguments and variables at targets | – | contract/test_executor_*.py, engine/test_wrapper.py, engine/test_ssh.py | infra/test_calls.py (roles) |
| settings.yaml | engine/test_settings.py | – | – |
"""
