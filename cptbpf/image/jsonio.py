"""Images as JSON and back."""

from cptbpf.image.fromjson import from_json
from cptbpf.image.tojson import task_to_json, to_json

__all__ = ["from_json", "task_to_json", "to_json"]
