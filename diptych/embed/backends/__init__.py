"""Back ends: the same model computed by torch, ONNX Runtime or OpenVINO, each tested against fp32 torch before use.

compile_model      a Model -> graphs on disk for one back end and precision, self-tested
CompiledModel      these graphs, opened without torch: arrays in, arrays out
BackendModel       the Encoder that evaluation, search and embedding use
choose_backend     the fastest on this machine that passed
"""
