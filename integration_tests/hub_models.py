"""A small model of each family in KerasHub."""

from functools import partial

from keras_hub import layers
from keras_hub import models

LENGTH = 8
IMAGE = (32, 32, 3)

TEXT = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
POSITIONS = {"max_sequence_length": 16}
# Queries of several heads share the keys and values of one.
GROUPED = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 16,
}
EXPERTS = {"num_experts": 3, "top_k": 2}
# Qwen 3.5 alternates these layers.
LINEAR = {
    "num_layers": 4,
    "head_dim": 8,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "partial_rotary_factor": 0.25,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_conv_kernel_dim": 4,
}


def resnet(**kwargs):
    return models.ResNetBackbone(
        **{
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 8, 16],
            "stackwise_num_blocks": [1, 1, 2],
            "stackwise_num_strides": [1, 2, 2],
            "block_type": "basic_block",
            **kwargs,
        }
    )


def hgnet(**kwargs):
    return models.HGNetV2Backbone(
        stem_channels=[3, 8, 8],
        stackwise_stage_filters=[[8, 8, 16, 1, 1, 3], [16, 8, 32, 1, 1, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        depths=[1, 1],
        hidden_sizes=[16, 32],
        embedding_size=8,
        use_learnable_affine_block=True,
        hidden_act="relu",
        out_features=["stage1", "stage2"],
        **kwargs,
    )


def mit():
    return models.MiTBackbone(
        layerwise_depths=[1, 1],
        image_shape=IMAGE,
        hidden_dims=[4, 8],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[8, 4],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
    )


def vit(**kwargs):
    return models.ViTBackbone(
        **{
            "image_shape": IMAGE,
            "patch_size": (8, 8),
            "num_layers": 2,
            "hidden_dim": 16,
            "num_heads": 2,
            "mlp_dim": 32,
            "use_mha_bias": True,
            **kwargs,
        }
    )


def dino_v2(**kwargs):
    return models.DINOV2Backbone(
        **{
            "patch_size": 8,
            "num_layers": 2,
            "hidden_dim": 16,
            "num_heads": 2,
            "intermediate_dim": 32,
            "layer_scale_init_value": 1.0,
            "num_register_tokens": 2,
            "image_shape": IMAGE,
            **kwargs,
        }
    )


def clip(kind):
    vision = {"image_shape": IMAGE}
    vision_encoder = getattr(models, f"{kind}VisionEncoder")
    text_encoder = getattr(models, f"{kind}TextEncoder")
    projection = {} if kind == "SigLIP" else {"projection_dim": 8}
    return getattr(models, f"{kind}Backbone")(
        vision_encoder=vision_encoder(16, 8, 2, 2, 16, **vision),
        text_encoder=text_encoder(
            20, 8, 8, 2, 2, 16, max_sequence_length=LENGTH
        ),
        **projection,
    )


def vae(name="vae"):
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    blocks = [32] * 4, [1] * 4
    return VAEBackbone(*blocks, *blocks, sampler_method="mode", name=name)


def d_fine():
    return models.DFineBackbone(
        backbone=hgnet(image_shape=IMAGE),
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=10,
        num_labels=4,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=5,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[16, 32],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=32,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        image_shape=IMAGE,
        seed=0,
    )


def sam():
    return models.SAMBackbone(
        image_encoder=vit_det(image_shape=(64, 64, 3), num_output_channels=8),
        prompt_encoder=layers.SAMPromptEncoder(
            hidden_size=8,
            image_embedding_size=(4, 4),
            input_image_size=(64, 64),
            mask_in_channels=16,
        ),
        mask_decoder=layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=8,
            intermediate_dim=16,
            num_heads=2,
            embedding_dim=8,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )


def sam_3():
    kwargs = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2}
    deep = {**kwargs, "intermediate_dim": 32}
    image = {"image_shape": (28, 28, 3), "patch_size": 14}
    return models.SAM3PromptableConceptBackbone(
        vision_encoder=layers.SAM3VisionEncoder(
            **image,
            **deep,
            fpn_hidden_dim=16,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(42, 42, 3),
            window_size=2,
            global_attn_indexes=[1],
        ),
        text_encoder=layers.SAM3TextEncoder(
            vocabulary_size=32, embedding_dim=16, **deep
        ),
        geometry_encoder=layers.SAM3GeometryEncoder(**deep, roi_size=7),
        detr_encoder=layers.SAM3DetrEncoder(**deep),
        detr_decoder=layers.SAM3DetrDecoder(**image, **deep, num_queries=5),
        mask_decoder=layers.SAM3MaskDecoder(
            num_upsampling_stages=3, hidden_dim=16, num_heads=2
        ),
    )


def rq_vae():
    from keras_hub.src.models.rqvae.rqvae_backbone import RQVAEBackbone

    return RQVAEBackbone(
        input_dim=16,
        encoder_layer_dims=[32, 16],
        output_dim=8,
        decoder_layer_dims=[16, 32],
        num_embeddings=4,
        num_quantizers=2,
        decay=0.99,
        data_variance=1.0,
        commitment_cost=0.25,
    )


def vit_det(**kwargs):
    return models.ViTDetBackbone(
        **{
            "image_shape": IMAGE,
            "patch_size": 16,
            "hidden_size": 8,
            "num_layers": 2,
            "global_attention_layer_indices": [1],
            "intermediate_dim": 16,
            "num_heads": 2,
            "num_output_channels": 4,
            "window_size": 2,
            **kwargs,
        }
    )


def stable_diffusion_3(kind):
    backbone = models.StableDiffusion3Backbone(
        mmdit_patch_size=2,
        mmdit_hidden_dim=32,
        mmdit_num_layers=2,
        mmdit_num_heads=2,
        mmdit_position_size=192,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=vae(),
        clip_l=models.CLIPTextEncoder(
            20, 32, 32, 2, 2, 64, "quick_gelu", -2, name="clip_l"
        ),
        clip_g=models.CLIPTextEncoder(
            20, 64, 64, 2, 2, 128, "gelu", -2, name="clip_g"
        ),
        image_shape=(64, 64, 3),
    )
    task = getattr(models, f"StableDiffusion3{kind}")
    return task(backbone, preprocessor=None)


def encoder_decoder(kind, **kwargs):
    sides = {}
    for side in ("encoder", "decoder"):
        sides |= {
            f"{side}_hidden_dim": 16,
            f"{side}_intermediate_dim": 32,
            f"{side}_num_layers": 2,
            f"{side}_num_attention_heads": 4,
            f"{side}_num_key_value_heads": 2,
            f"{side}_head_dim": 8,
            f"{side}_layer_types": ["sliding_attention", "full_attention"],
        }
    return getattr(models, kind)(
        vocabulary_size=20,
        **sides,
        dropout_rate=0.1,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        query_pre_attn_scalar=1.0,
        attention_bias=False,
        hidden_activation="gelu_approximate",
        sliding_window=4,
        cross_attention_hidden_size=16,
        attn_logit_softcapping=50.0,
        rope_max_wavelength=10000.0,
        initializer_range=0.04,
        attention_dropout=0.1,
        **kwargs,
    )


def gemma_3n():
    from keras_hub.src.models.gemma3n.gemma3n_audio_encoder import (
        Gemma3nAudioEncoder,
    )
    from keras_hub.src.models.mobilenetv5.mobilenetv5_builder import (
        convert_arch_def_to_stackwise,
    )

    vision = models.MobileNetV5Backbone(
        **convert_arch_def_to_stackwise([["er_r1_k3_s1_e1_c8"]]),
        num_features=4,
        image_shape=IMAGE,
        use_msfa=False,
    )
    audio = Gemma3nAudioEncoder(
        hidden_size=4,
        input_feat_size=16,
        sscp_conv_channel_size=[2, 4],
        sscp_conv_kernel_size=[(1, 1), (1, 1)],
        sscp_conv_stride_size=[(2, 2), (2, 2)],
        sscp_conv_group_norm_eps=1e-5,
        num_hidden_layers=1,
        rms_norm_eps=1e-6,
        gradient_clipping=1.0,
        residual_weight=0.5,
        num_attention_heads=1,
        attention_chunk_size=2,
        num_attention_context_right=1,
        num_attention_context_left=1,
        attention_logit_cap=50.0,
        conv_kernel_size=3,
        reduction_factor=1,
    )
    return models.Gemma3nBackbone(
        text_vocab_size=20,
        text_hidden_size=4,
        num_hidden_layers=1,
        pad_token_id=0,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=[8],
        hidden_activation="gelu_approximate",
        layer_types=["full_attention"],
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=LENGTH,
        vocab_size_per_layer_input=20,
        hidden_size_per_layer_input=2,
        altup_num_inputs=2,
        laurel_rank=1,
        vision_encoder_config=vision.get_config(),
        vision_hidden_size=8,
        audio_encoder_config=audio.get_config(),
        audio_hidden_size=4,
    )


def gemma_3(**kwargs):
    return models.Gemma3Backbone(
        **GROUPED,
        image_size=16,
        head_dim=4,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        use_query_key_norm=True,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        **kwargs,
    )


def gemma_3_vision():
    return gemma_3(
        vision_encoder=models.Gemma3VisionEncoder(
            image_size=16,
            patch_size=4,
            pool_size=2,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            output_dim=16,
        )
    )


def gemma_4(**kwargs):
    return models.Gemma4Backbone(
        **GROUPED,
        image_size=16,
        head_dim=4,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        **kwargs,
    )


def gemma_4_vision():
    return gemma_4(
        vision_encoder=models.Gemma4VisionEncoder(
            image_size=16,
            patch_size=4,
            pool_size=2,
            num_layers=2,
            num_heads=2,
            head_dim=4,
            num_key_value_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            output_dim=16,
        )
    )


def gemma_4_assistant():
    """What drafts tokens for `gemma_4()`."""
    return models.Gemma4AssistantCausalLM(
        preprocessor=None,
        backbone=gemma_4(),
        backbone_hidden_size=GROUPED["hidden_dim"],
        num_centroids=5,
        centroid_intermediate_top_k=2,
        use_ordered_embeddings=True,
        num_speculative_tokens=2,
    )


def blip_2(language_model):
    return models.BLIP2Backbone(
        vision_encoder=models.BLIP2VisionEncoder(
            image_size=16,
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            use_patch_bias=True,
            use_class_token=True,
            use_mha_bias=True,
            use_mlp_bias=True,
            dropout_rate=0.0,
            layer_norm_epsilon=1e-6,
            initializer_range=0.02,
        ),
        qformer=models.BLIP2QFormer(
            num_query_tokens=2,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
            vision_dim=8,
            cross_attention_frequency=1,
            dropout=0.0,
            layer_norm_epsilon=1e-6,
        ),
        language_model=language_model(
            **TEXT, num_query_tokens=2, qformer_hidden_dim=8, dropout=0.0
        ),
    )


def mobilenet():
    return models.MobileNetBackbone(
        stackwise_expansion=[[8, 8], [16, 16]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[8, 8], [16, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[
            ["relu", "relu"],
            ["hard_swish", "hard_swish"],
            ["hard_swish"],
        ],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=32,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=8,
        image_shape=IMAGE,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=32,
    )


def mobilenet_v5():
    from keras_hub.src.models.mobilenetv5.mobilenetv5_builder import (
        convert_arch_def_to_stackwise,
    )

    return models.MobileNetV5Backbone(
        **convert_arch_def_to_stackwise(
            [
                ["er_r1_k3_s2_e4_c8"],
                ["uir_r1_a5_k5_s2_e4_c16", "mqa_r1_k3_h2_s1_d8_c16"],
            ]
        ),
        image_shape=IMAGE,
        stem_size=8,
        use_msfa=False,
    )


def efficientnet():
    return models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_shape=IMAGE,
    )


def cspnet():
    return models.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_strides=2,
        stackwise_depth=[1, 2],
        stackwise_num_filters=[8, 16],
        image_shape=IMAGE,
        down_growth=True,
        bottle_ratio=(0.5, 1.0),
        block_ratio=(1.0, 0.5),
        expand_ratio=(2.0, 1.0),
        block_type="dark_block",
        stage_type="csp",
        stem_padding="same",
    )


def flux():
    return models.FluxBackbone(
        input_channels=8,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[2, 2, 4],
        theta=10_000,
        use_bias=True,
        guidance_embed=True,
        image_shape=(4, 8),
        text_shape=(4, 8),
        image_ids_shape=(4, 3),
        text_ids_shape=(4, 3),
        y_shape=(8,),
    )


def parseq():
    task = parseq_reader()
    task.preprocessor = None  # which its constructor takes the loss from
    return task


def parseq_reader():
    tokenizer = models.PARSeqTokenizer(list("abcdefghijklmnopq"))
    return models.PARSeqCausalLM(
        preprocessor=models.PARSeqCausalLMPreprocessor(
            # Large values, for what is read to depend on them.
            layers.PARSeqImageConverter(image_size=IMAGE[:2], scale=1 / 16),
            tokenizer,
            sequence_length=LENGTH,
        ),
        backbone=models.PARSeqBackbone(
            image_encoder=vit(use_class_token=False),
            vocabulary_size=tokenizer.vocabulary_size(),
            max_label_length=LENGTH,
            decoder_hidden_dim=16,
            num_decoder_layers=2,
            num_decoder_heads=2,
            decoder_mlp_dim=32,
        ),
    )


def depth_anything():
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return models.DepthAnythingBackbone(
        image_encoder=dino_v2(
            num_layers=4,
            patch_size=14,
            image_shape=(126, 126, 3),
            num_register_tokens=0,
            apply_layernorm=True,
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[4, 8, 8, 16],
        fusion_hidden_dim=8,
        head_hidden_dim=8,
        head_in_index=-1,
        feature_keys=stages,
    )


def causal(kind, backbone):
    task = getattr(models, f"{kind}CausalLM")
    return task(backbone=backbone, preprocessor=None)


def seq_2_seq(kind, backbone):
    task = getattr(models, f"{kind}Seq2SeqLM")
    return task(backbone=backbone, preprocessor=None)


def classifier(kind, backbone):
    task = getattr(models, f"{kind}ImageClassifier")
    return task(backbone=backbone, preprocessor=None, num_classes=3)


def text_classifier(kind, backbone):
    return getattr(models, f"{kind}TextClassifier")(backbone, num_classes=3)


def masked(kind, backbone):
    return getattr(models, f"{kind}MaskedLM")(backbone)


# One function a family, named as its folder in KerasHub.
FAMILIES = {
    # text
    "albert": lambda: text_classifier(
        "Albert",
        models.AlbertBackbone(**TEXT, **POSITIONS, embedding_dim=4),
    ),
    "bart": lambda: seq_2_seq("Bart", models.BartBackbone(**TEXT, **POSITIONS)),
    "bert": lambda: text_classifier(
        "Bert", models.BertBackbone(**TEXT, **POSITIONS)
    ),
    "bloom": lambda: causal("Bloom", models.BloomBackbone(**TEXT, **POSITIONS)),
    "deberta_v3": lambda: masked(
        "DebertaV3",
        models.DebertaV3Backbone(**TEXT, **POSITIONS, bucket_size=4),
    ),
    "distil_bert": lambda: text_classifier(
        "DistilBert", models.DistilBertBackbone(**TEXT, **POSITIONS)
    ),
    "edrec": lambda: seq_2_seq(
        "EdRec",
        models.EdRecBackbone(
            vocab_size=20,
            num_layers_enc=2,
            num_layers_dec=2,
            num_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
        ),
    ),
    "electra": lambda: models.ElectraBackbone(
        vocab_size=20,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        embedding_dim=4,
        intermediate_dim=16,
        **POSITIONS,
    ),
    "esm": lambda: models.ESMMaskedPLM(models.ESMBackbone(**TEXT)),
    "f_net": lambda: text_classifier(
        "FNet",
        models.FNetBackbone(
            vocabulary_size=20,
            num_layers=2,
            hidden_dim=8,
            intermediate_dim=16,
            **POSITIONS,
        ),
    ),
    "falcon": lambda: causal(
        "Falcon",
        models.FalconBackbone(
            vocabulary_size=20,
            num_layers=2,
            num_attention_heads=2,
            hidden_dim=8,
            intermediate_dim=16,
        ),
    ),
    "gemma": lambda: causal(
        "Gemma",
        models.GemmaBackbone(
            **GROUPED,
            head_dim=4,
            use_sliding_window_attention=True,
            sliding_window_size=4,
            attention_logit_soft_cap=50,
            final_logit_soft_cap=30,
        ),
    ),
    "gemma3": lambda: causal("Gemma3", gemma_3()),
    "gemma3 with images": lambda: causal("Gemma3", gemma_3_vision()),
    "gemma3n": lambda: causal("Gemma3n", gemma_3n()),
    "gemma4": lambda: causal("Gemma4", gemma_4()),
    "gemma4 with images": lambda: causal("Gemma4", gemma_4_vision()),
    "gpt2": lambda: causal("GPT2", models.GPT2Backbone(**TEXT, **POSITIONS)),
    "gpt_neo_x": lambda: causal(
        "GPTNeoX",
        models.GPTNeoXBackbone(**TEXT, **POSITIONS, rotary_percentage=0.5),
    ),
    "gpt_oss": lambda: causal(
        "GptOss",
        models.GptOssBackbone(**GROUPED, **EXPERTS, sliding_window=4),
    ),
    "llama": lambda: causal("Llama", models.LlamaBackbone(**GROUPED)),
    "llama3": lambda: causal("Llama3", models.Llama3Backbone(**GROUPED)),
    "mistral": lambda: causal(
        "Mistral", models.MistralBackbone(**GROUPED, sliding_window=4)
    ),
    "mixtral": lambda: causal(
        "Mixtral",
        models.MixtralBackbone(**GROUPED, **EXPERTS, sliding_window=4),
    ),
    "opt": lambda: causal("OPT", models.OPTBackbone(**TEXT, **POSITIONS)),
    "phi3": lambda: causal("Phi3", models.Phi3Backbone(**GROUPED)),
    "qwen": lambda: causal("Qwen", models.QwenBackbone(**GROUPED)),
    "qwen3": lambda: causal(
        "Qwen3", models.Qwen3Backbone(**GROUPED, head_dim=4)
    ),
    "qwen3_5": lambda: causal(
        "Qwen3_5", models.Qwen3_5Backbone(**{**GROUPED, **LINEAR})
    ),
    "qwen3_5_moe": lambda: causal(
        "Qwen3_5Moe",
        models.Qwen3_5MoeBackbone(
            **{k: v for k, v in GROUPED.items() if k != "intermediate_dim"}
            | LINEAR,
            **EXPERTS,
            moe_intermediate_dim=8,
            shared_expert_intermediate_size=8,
        ),
    ),
    "qwen3_moe": lambda: causal(
        "Qwen3Moe",
        models.Qwen3MoeBackbone(
            **GROUPED,
            **EXPERTS,
            head_dim=4,
            moe_intermediate_dim=16,
            norm_top_k_prob=True,
        ),
    ),
    "qwen_moe": lambda: causal(
        "QwenMoe",
        models.QwenMoeBackbone(
            **GROUPED,
            **EXPERTS,
            moe_intermediate_dim=16,
            shared_expert_intermediate_dim=16,
        ),
    ),
    "roberta": lambda: masked(
        "Roberta", models.RobertaBackbone(**TEXT, **POSITIONS)
    ),
    "roformer_v2": lambda: text_classifier(
        "RoformerV2", models.RoformerV2Backbone(**TEXT, head_size=4)
    ),
    "rwkv7": lambda: causal(
        "RWKV7",
        models.RWKV7Backbone(
            vocabulary_size=20,
            hidden_size=16,
            num_layers=2,
            head_size=4,
            intermediate_dim=32,
            gate_lora=8,
            mv_lora=8,
            aaa_lora=8,
            decay_lora=8,
        ),
    ),
    "smollm3": lambda: causal(
        "SmolLM3",
        models.SmolLM3Backbone(
            vocabulary_size=20,
            hidden_dim=16,
            intermediate_dim=32,
            num_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attention_bias=False,
            attention_dropout=0.0,
            rope_layer_enabled_list=[True, False],
            layer_types=["attention", "attention"],
            mlp_bias=False,
            layer_norm_epsilon=1e-5,
            max_position_embeddings=16,
            rope_theta=10000.0,
            partial_rotary_factor=1.0,
        ),
    ),
    "t5": lambda: seq_2_seq("T5", models.T5Backbone(**TEXT)),
    "t5gemma": lambda: seq_2_seq("T5Gemma", encoder_decoder("T5GemmaBackbone")),
    "t5gemma2": lambda: seq_2_seq(
        "T5Gemma2",
        encoder_decoder("T5Gemma2Backbone", use_query_key_norm=True),
    ),
    "xlm_roberta": lambda: text_classifier(
        "XLMRoberta", models.XLMRobertaBackbone(**TEXT, **POSITIONS)
    ),
    "xlnet": lambda: models.XLNetBackbone(**TEXT),
    # sound
    "moonshine": lambda: models.MoonshineAudioToText(
        models.MoonshineBackbone(
            vocabulary_size=20,
            filter_dim=16,
            encoder_num_layers=1,
            decoder_num_layers=1,
            hidden_dim=16,
            intermediate_dim=32,
            encoder_num_heads=2,
            decoder_num_heads=2,
            feedforward_expansion_factor=2,
            max_position_embeddings=64,
            partial_rotary_factor=0.62,
        ),
        preprocessor=None,
    ),
    "whisper": lambda: models.WhisperBackbone(
        **TEXT,
        num_mels=8,
        max_encoder_sequence_length=LENGTH,
        max_decoder_sequence_length=LENGTH,
    ),
    # images
    "basnet": lambda: models.BASNetImageSegmenter(
        models.BASNetBackbone(
            image_encoder=resnet(
                stackwise_num_filters=[64, 8, 8, 8],
                stackwise_num_blocks=[1] * 4,
                stackwise_num_strides=[1, 2, 2, 2],
            ),
            num_classes=1,
            image_shape=(64, 64, 3),
        )
    ),
    "cspnet": lambda: classifier("CSPNet", cspnet()),
    "d_fine": d_fine,
    "deeplab_v3": lambda: models.DeepLabV3ImageSegmenter(
        models.DeepLabV3Backbone(
            image_encoder=resnet(),
            low_level_feature_key="P2",
            spatial_pyramid_pooling_key="P4",
            dilation_rates=[2, 4],
            upsampling_size=4,
            image_shape=(64, 64, 3),
        ),
        num_classes=2,
    ),
    "deit": lambda: classifier(
        "DeiT",
        models.DeiTBackbone(
            image_shape=IMAGE,
            patch_size=8,
            num_layers=2,
            hidden_dim=16,
            num_heads=2,
            intermediate_dim=32,
        ),
    ),
    "densenet": lambda: classifier(
        "DenseNet",
        models.DenseNetBackbone(
            stackwise_num_repeats=[1, 2],
            compression_ratio=0.5,
            growth_rate=4,
            image_shape=IMAGE,
        ),
    ),
    "depth_anything": lambda: models.DepthAnythingDepthEstimator(
        depth_anything(), depth_estimation_type="relative"
    ),
    "dinov2": dino_v2,
    "dinov3": lambda: models.DINOV3Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        layer_scale_init_value=1.0,
        num_register_tokens=2,
        image_shape=IMAGE,
    ),
    "efficientnet": lambda: classifier("EfficientNet", efficientnet()),
    "hgnetv2": lambda: classifier("HGNetV2", hgnet(image_shape=IMAGE)),
    "mit": lambda: classifier("MiT", mit()),
    "mobilenet": lambda: classifier("MobileNet", mobilenet()),
    "mobilenetv5": lambda: classifier("MobileNetV5", mobilenet_v5()),
    "resnet": lambda: classifier("ResNet", resnet()),
    "resnet with bottlenecks": lambda: resnet(
        block_type="bottleneck_block", use_pre_activation=True
    ),
    "retinanet": lambda: models.RetinaNetBackbone(
        image_encoder=resnet(
            stackwise_num_filters=[64, 8, 8, 8],
            stackwise_num_blocks=[1] * 4,
            stackwise_num_strides=[1, 2, 2, 2],
        ),
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(64, 64, 3),
    ),
    "rqvae": rq_vae,
    "sam": sam,
    "sam3": sam_3,
    "segformer": lambda: models.SegFormerImageSegmenter(
        models.SegFormerBackbone(image_encoder=mit(), projection_filters=8),
        num_classes=3,
    ),
    "swin_transformer": lambda: classifier(
        "SwinTransformer",
        models.SwinTransformerBackbone(
            image_shape=IMAGE,
            embed_dim=8,
            depths=(2, 2),
            num_heads=(2, 4),
            window_size=4,
        ),
    ),
    "vae": vae,
    "vgg": lambda: classifier(
        "VGG",
        models.VGGBackbone(
            stackwise_num_repeats=[1, 2],
            stackwise_num_filters=[8, 16],
            image_shape=IMAGE,
        ),
    ),
    "vit": lambda: classifier("ViT", vit()),
    "vit_det": vit_det,
    "xception": lambda: classifier(
        "Xception",
        models.XceptionBackbone(
            stackwise_conv_filters=[[8, 16], [16, 16]],
            stackwise_pooling=[True, False],
            image_shape=(64, 64, 3),
        ),
    ),
    # several kinds at once
    "blip2": lambda: causal(
        "BLIP2",
        blip_2(partial(models.BLIP2CustomOPT, **POSITIONS)),
    ),
    "blip2 with an encoder": lambda: seq_2_seq(
        "BLIP2", blip_2(models.BLIP2FlanT5)
    ),
    "clip": lambda: clip("CLIP"),
    "flux": lambda: models.FluxTextToImage(flux(), preprocessor=None),
    "metaclip_2": lambda: clip("MetaCLIP2"),
    "pali_gemma": lambda: causal(
        "PaliGemma",
        models.PaliGemmaBackbone(
            **GROUPED,
            image_size=16,
            head_dim=4,
            vit_patch_size=4,
            vit_num_layers=2,
            vit_num_heads=2,
            vit_hidden_dim=8,
            vit_intermediate_dim=16,
        ),
    ),
    "parseq": parseq,
    "siglip": lambda: clip("SigLIP"),
    "stable_diffusion_3": lambda: stable_diffusion_3("TextToImage"),
    "stable_diffusion_3 with images": lambda: stable_diffusion_3(
        "ImageToImage"
    ),
    "stable_diffusion_3 with masks": lambda: stable_diffusion_3("Inpaint"),
    "video_prism": lambda: models.VideoPrismBackbone(
        image_shape=(16, 16, 3),
        num_frames=2,
        patch_size=8,
        hidden_dim=16,
        intermediate_dim=32,
        num_heads=2,
        num_spatial_layers=1,
        num_temporal_layers=1,
        num_auxiliary_layers=1,
        vocabulary_size=0,
        num_text_layers=0,
    ),
}
