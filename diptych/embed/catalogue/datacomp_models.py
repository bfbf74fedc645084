"""DataComp's models: its best filters, and the baselines of CommonPool at four scales."""

from diptych.embed.catalogue.architectures import hub_models
from diptych.embed.catalogue.catalogue_model import MIT, Family

DATACOMP = Family(name="DataComp", license=MIT, runs="native")
COMMONPOOL = Family(name="CommonPool", license=MIT, runs="native")

MODELS = (
    *hub_models(
        DATACOMP,
        (
            ("ViT-B-32/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", 0.6917, 0.5795),
            ("ViT-B-32/datacomp_m_s128m_b4k", "laion/CLIP-ViT-B-32-DataComp.M-s128M-b4K", 0.2972, 0.3281),
            ("ViT-B-32/datacomp_s_s13m_b4k", "laion/CLIP-ViT-B-32-DataComp.S-s13M-b4K", 0.0392, 0.1449),
            ("ViT-B-32-256/datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 0.7281, 0.6087),
            ("ViT-B-16/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 0.7349, 0.6147),
            ("ViT-B-16/datacomp_l_s1b_b8k", "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K", 0.631, 0.5372),
            ("ViT-L-14/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 0.7921, 0.6627),
        ),
    ),
    *hub_models(
        COMMONPOOL,
        (
            ("ViT-B-32/commonpool_m_clip_s128m_b4k", "laion/CLIP-ViT-B-32-CommonPool.M.clip-s128M-b4K", 0.2725, 0.3278),
            (
                "ViT-B-32/commonpool_m_laion_s128m_b4k",
                "laion/CLIP-ViT-B-32-CommonPool.M.laion-s128M-b4K",
                0.2304,
                0.2919,
            ),
            (
                "ViT-B-32/commonpool_m_image_s128m_b4k",
                "laion/CLIP-ViT-B-32-CommonPool.M.image-s128M-b4K",
                0.2678,
                0.3118,
            ),
            ("ViT-B-32/commonpool_m_text_s128m_b4k", "laion/CLIP-ViT-B-32-CommonPool.M.text-s128M-b4K", 0.2548, 0.3066),
            (
                "ViT-B-32/commonpool_m_basic_s128m_b4k",
                "laion/CLIP-ViT-B-32-CommonPool.M.basic-s128M-b4K",
                0.2255,
                0.2849,
            ),
            ("ViT-B-32/commonpool_m_s128m_b4k", "laion/CLIP-ViT-B-32-CommonPool.M-s128M-b4K", 0.1755, 0.258),
            ("ViT-B-32/commonpool_s_clip_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S.clip-s13M-b4K", 0.0505, 0.1731),
            ("ViT-B-32/commonpool_s_laion_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S.laion-s13M-b4K", 0.0305, 0.1332),
            ("ViT-B-32/commonpool_s_image_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S.image-s13M-b4K", 0.0392, 0.1449),
            ("ViT-B-32/commonpool_s_text_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S.text-s13M-b4K", 0.046, 0.1573),
            ("ViT-B-32/commonpool_s_basic_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S.basic-s13M-b4K", 0.0377, 0.1423),
            ("ViT-B-32/commonpool_s_s13m_b4k", "laion/CLIP-ViT-B-32-CommonPool.S-s13M-b4K", 0.027, 0.142),
            ("ViT-B-16/commonpool_l_clip_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.clip-s1B-b8K", 0.5777, 0.5294),
            ("ViT-B-16/commonpool_l_laion_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.laion-s1B-b8K", 0.5526, 0.5011),
            ("ViT-B-16/commonpool_l_image_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.image-s1B-b8K", 0.5719, 0.4812),
            ("ViT-B-16/commonpool_l_text_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.text-s1B-b8K", 0.5605, 0.476),
            ("ViT-B-16/commonpool_l_basic_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.basic-s1B-b8K", 0.5155, 0.4585),
            ("ViT-B-16/commonpool_l_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L-s1B-b8K", 0.4593, 0.437),
            (
                "ViT-L-14/commonpool_xl_clip_s13b_b90k",
                "laion/CLIP-ViT-L-14-CommonPool.XL.clip-s13B-b90K",
                0.7637,
                0.6501,
            ),
            (
                "ViT-L-14/commonpool_xl_laion_s13b_b90k",
                "laion/CLIP-ViT-L-14-CommonPool.XL.laion-s13B-b90K",
                0.7545,
                0.636,
            ),
            ("ViT-L-14/commonpool_xl_s13b_b90k", "laion/CLIP-ViT-L-14-CommonPool.XL-s13B-b90K", 0.7229, 0.6207),
        ),
    ),
)
