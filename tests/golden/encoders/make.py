"""Makes the fixtures beside it (needs torch, and sentence-transformers' MiniLM and MPNet):

    BLOMIX_MINILM=... BLOMIX_MPNET=... python tests/golden/encoders/make.py [NAME ...]

For each small random model: the directory that transformers saves, and `expected.npz` with the
inputs and torch's logits, pooled output (the last layer's input), hidden states, loss, and the
gradient of the loss by the parameter's name. For the two real models (`real-minilm`,
`real-mpnet`), whose directories the environment names: inputs of three texts, the mean-pooled
output, the first token's last state, and the logits of a random head. All float32, one thread.
"""

import os
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

HERE = Path(__file__).parent
SMALL = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "num_labels": 3,
}
DISTILBERT = {
    "vocab_size": 30,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 24,
    "max_position_embeddings": 32,
    "num_labels": 3,
}
DEBERTA = {
    "relative_attention": True,
    "share_att_key": True,
    "position_buckets": 8,
    "max_relative_positions": 16,
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
MODERNBERT = {
    "num_hidden_layers": 4,
    "local_attention": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
BART = {
    "vocab_size": 30,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 32,
    "num_labels": 3,
}
# name -> (model_type, config)
MODELS = {
    "bart": ("bart", BART),
    "bert": ("bert", SMALL),
    "bert-regression": ("bert", SMALL | {"num_labels": 1, "hidden_act": "gelu_new"}),
    "roberta": ("roberta", SMALL | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": ("xlm-roberta", SMALL | {"type_vocab_size": 1, "num_hidden_layers": 1}),
    "camembert": ("camembert", SMALL | {"type_vocab_size": 1, "num_hidden_layers": 1}),
    "deberta": ("deberta-v2", SMALL | DEBERTA),
    "deberta-plain": (
        "deberta-v2",
        SMALL
        | DEBERTA
        | {"position_buckets": -1, "norm_rel_ebd": "none", "type_vocab_size": 2}
        | {"pos_att_type": ["c2p"], "position_biased_input": True, "num_hidden_layers": 1},
    ),
    "electra": ("electra", SMALL | {"embedding_size": 8}),
    "electra-wide": ("electra", SMALL | {"embedding_size": 16, "num_hidden_layers": 1}),
    "distilbert": ("distilbert", DISTILBERT),
    "modernbert": ("modernbert", SMALL | MODERNBERT),
    "modernbert-biased": (
        "modernbert",
        SMALL
        | MODERNBERT
        | {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
        | {"classifier_bias": True, "classifier_pooling": "mean", "num_hidden_layers": 2},
    ),
    "mpnet": ("mpnet", SMALL | {"max_position_embeddings": 210, "hidden_size": 8}),
    "albert": ("albert", SMALL | {"embedding_size": 8, "num_hidden_layers": 3}),
    "albert-groups": ("albert", SMALL | {"num_hidden_layers": 4, "num_hidden_groups": 2}),
}
LENGTHS = {"deberta": 24, "modernbert": 24, "mpnet": 200}
REAL = {"real-minilm": "BLOMIX_MINILM", "real-mpnet": "BLOMIX_MPNET"}
TEXTS = [
    "The film never quite recovers from its opening.",
    "Rates rose.",
    "A striker, two midfielders and the goalkeeper were booked before half-time.",
]


def randomise(model: torch.nn.Module) -> None:
    """Biases and LayerNorm away from 0 and 1, so that none of them can be forgotten unseen."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            elif "embedding" in name:
                parameter.copy_(0.5 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.15 * torch.randn_like(parameter))


def inputs(config, length: int) -> dict[str, torch.Tensor]:
    """Three rows, of a full, a middle and a short length."""
    pad = config.pad_token_id
    ids = torch.randint(3, config.vocab_size, (3, length))
    mask = torch.ones_like(ids)
    for row, real in enumerate((length, length // 2 + 1, 3)):
        if config.is_encoder_decoder:
            ids[row, real - 1] = config.eos_token_id
        ids[row, real:] = pad
        mask[row, real:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        batch["token_type_ids"] = (torch.arange(length)[None, :] >= length // 4).long() * mask
    return batch


def hidden_states(out) -> tuple[torch.Tensor, ...]:
    """An encoder's, or an encoder's and then the decoder's."""
    if "decoder_hidden_states" in out:
        return (*out.encoder_hidden_states, *out.decoder_hidden_states)
    return out.hidden_states


def last_linear(model: torch.nn.Module) -> torch.nn.Linear:
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return next(linear for linear in linears if linear.out_features == model.config.num_labels)


def make(name: str) -> None:
    kind, settings = MODELS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    config = AutoConfig.for_model(kind, **settings)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    randomise(model)
    model.eval()
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)

    batch = inputs(config, LENGTHS.get(name, 12))
    pooled = []
    last_linear(model).register_forward_pre_hook(lambda _, given: pooled.append(given[0]))
    labels = torch.tensor([0.5, -1.0, 2.0]) if config.num_labels == 1 else torch.tensor([2, 0, 1])
    out = model(**batch, labels=labels, output_hidden_states=True)
    out.loss.backward()
    arrays = {name: tensor.numpy().astype(np.int32) for name, tensor in batch.items()}
    arrays |= {"labels": labels.numpy(), "logits": out.logits, "pooled": pooled[0]}
    arrays |= {"loss": out.loss}
    arrays |= {f"hidden_{i}": state for i, state in enumerate(hidden_states(out))}
    arrays |= {f"gradient {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    as_numpy = {
        n: a.detach().numpy() if isinstance(a, torch.Tensor) else a for n, a in arrays.items()
    }
    np.savez_compressed(directory / "expected.npz", **as_numpy)


def make_real(name: str, directory: str) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    batch = AutoTokenizer.from_pretrained(directory)(TEXTS, padding=True, return_tensors="pt")
    head = torch.nn.Linear(model.config.hidden_size, 3)
    with torch.no_grad():
        last = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        pooled = (last * mask).sum(1) / mask.sum(1)
        arrays = {name: tensor.numpy().astype(np.int32) for name, tensor in batch.items()}
        arrays |= {"pooled": pooled.numpy(), "first_token": last[:, 0].numpy()}
        arrays |= {"logits": head(pooled).numpy()}
        arrays |= {"weights": head.weight.numpy().T, "bias": head.bias.numpy()}
    np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or [*MODELS, *REAL]:
        if chosen in REAL:
            make_real(chosen, os.environ[REAL[chosen]])
        else:
            make(chosen)
