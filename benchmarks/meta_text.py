"""Transformers' models of text, at the sizes of published checkpoints."""

from __future__ import annotations

from benchmarks.meta_entry import Entry
from benchmarks.meta_transformers import masked, translation
from benchmarks.meta_transformers_causal import CAUSAL
from benchmarks.meta_transformers_sparse import SPARSE

ENCODERS = (
    masked("bert-large-uncased", "BertForMaskedLM", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }),
    masked("roberta-large", "RobertaForMaskedLM", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "max_position_embeddings": 514, "type_vocab_size": 1,
    }),
    masked("xlm-roberta-large", "XLMRobertaForMaskedLM", {
        "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 514,
        "type_vocab_size": 1,
    }),
    masked("distilbert-base-uncased", "DistilBertForMaskedLM", {}),
    masked("albert-xxlarge-v2", "AlbertForMaskedLM", {}),
    masked("electra-large-discriminator", "ElectraForPreTraining", {
        "embedding_size": 1024, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096,
    }),
    masked("deberta-base", "DebertaForMaskedLM", {
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False,
    }),
    masked("deberta-v3-large", "DebertaV2ForSequenceClassification", {
        "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
        "pooler_hidden_size": 1024,
    }),
    masked("modernbert-large", "ModernBertForMaskedLM", {
        "hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 28,
        "num_attention_heads": 16,
    }, length=8192),
    masked("bigbird-roberta-large", "BigBirdForMaskedLM", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }, length=4096),
    masked("longformer-large-4096", "LongformerForMaskedLM", {
        "vocab_size": 50265, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "attention_window": [512] * 24,
        "max_position_embeddings": 4098, "type_vocab_size": 1, "pad_token_id": 1,
    }, length=4096),
    masked("yoso-4096", "YosoForMaskedLM", {}, length=4096),
    masked("xlnet-large-cased", "XLNetLMHeadModel", {}),
    masked("fnet-large", "FNetForMaskedLM", {
        "hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096,
    }),
    masked("squeezebert-uncased", "SqueezeBertForMaskedLM", {}),
    masked("mobilebert-uncased", "MobileBertForMaskedLM", {}),
    masked("convbert-base", "ConvBertForMaskedLM", {}),
    masked("mpnet-base", "MPNetForMaskedLM", {
        "max_position_embeddings": 514,
    }),
    masked("roformer_chinese_base", "RoFormerForMaskedLM", {}),
    masked("funnel-transformer-xlarge", "FunnelForMaskedLM", {
        "block_sizes": [10, 10, 10], "block_repeats": [1, 1, 1], "d_model": 1024, "n_head": 16,
        "d_inner": 4096,
    }),
    masked("canine-s", "CanineForSequenceClassification", {}, length=2048),
    masked("esm2_t36_3B_UR50D", "EsmForMaskedLM", {
        "vocab_size": 33, "hidden_size": 2560, "num_hidden_layers": 36,
        "num_attention_heads": 40, "intermediate_size": 10240,
        "position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 32,
        "pad_token_id": 1, "emb_layer_norm_before": False,
    }, length=1024),
)  # fmt: skip

TRANSLATIONS = (
    translation("t5-11b", "T5ForConditionalGeneration", {
        "d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24, "num_heads": 128,
    }),
    translation("flan-t5-xxl", "T5ForConditionalGeneration", {
        "d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    }),
    translation("umt5-xxl", "UMT5ForConditionalGeneration", {
        "vocab_size": 256384, "d_model": 4096, "d_ff": 10240, "num_layers": 24,
        "num_decoder_layers": 24, "num_heads": 64,
    }),
    translation("long-t5-tglobal-xl", "LongT5ForConditionalGeneration", {
        "d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32,
        "feed_forward_proj": "gated-gelu", "encoder_attention_type": "transient-global",
        "tie_word_embeddings": False,
    }, length=4096),
    translation("bart-large", "BartForConditionalGeneration", {}, length=1024),
    translation("mbart-large-50", "MBartForConditionalGeneration", {
        "vocab_size": 250054, "activation_function": "relu", "scale_embedding": True,
    }),
    translation("pegasus-large", "PegasusForConditionalGeneration", {
        "vocab_size": 96103, "encoder_layers": 16, "decoder_layers": 16,
        "activation_function": "relu", "scale_embedding": True,
    }, length=1024),
    translation("bigbird-pegasus-large-arxiv", "BigBirdPegasusForConditionalGeneration", {},
                length=4096, written=256),
    translation("pegasus-x-large", "PegasusXForConditionalGeneration", {
        "num_global_tokens": 128, "activation_function": "relu",
    }, length=16384),
    translation("opus-mt-en-de", "MarianMTModel", {
        "max_position_embeddings": 512, "encoder_layers": 6, "encoder_ffn_dim": 2048,
        "encoder_attention_heads": 8, "decoder_layers": 6, "decoder_ffn_dim": 2048,
        "decoder_attention_heads": 8, "activation_function": "swish", "d_model": 512,
        "scale_embedding": True, "pad_token_id": 58100,
    }),
    translation("m2m100_1.2B", "M2M100ForConditionalGeneration", {
        "encoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_layers": 24,
        "decoder_ffn_dim": 8192,
    }),
    translation("led-large-16384", "LEDForConditionalGeneration", {
        "attention_window": [1024] * 12,
    }, length=16384, written=256),
    translation("prophetnet-large-uncased", "ProphetNetForConditionalGeneration", {}),
    translation("blenderbot-3B", "BlenderbotForConditionalGeneration", {}, length=128, written=60),
    translation("wmt19-en-de", "FSMTForConditionalGeneration", {
        "encoder_layers": 6, "encoder_ffn_dim": 8192, "decoder_layers": 6,
    }),
    translation("switch-base-128", "SwitchTransformersForConditionalGeneration", {
        "d_ff": 3072, "num_experts": 128, "num_sparse_encoder_layers": 6,
        "num_sparse_decoder_layers": 6,
    }),
    translation("nllb-moe-54b", "NllbMoeForConditionalGeneration", {
        "vocab_size": 256206, "max_position_embeddings": 512, "d_model": 2048,
        "encoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_layers": 24,
        "decoder_ffn_dim": 8192,
    }),
)  # fmt: skip


ENTRIES: tuple[Entry, ...] = CAUSAL + SPARSE + ENCODERS + TRANSLATIONS
