"""Operators that a model may use: those whose work is bounded by the shapes of their inputs and decided by them alone.

Of some the shape of an output, or what is run (If), is decided by values; these may not be values of a row, see
`dependence`.

Left out are loops, sequences, optionals and maps, random numbers, decoders of images, and regular expressions;
everything in a domain of its own, Microsoft's included, is code that the standard does not describe.
"""

from typing import Final

#: Domain of the standard's operators, and of those for classical models.
STANDARD: Final = ""
CLASSICAL: Final = "ai.onnx.ml"

#: Versions of the operator sets, from the oldest to the newest that ONNX Runtime promises to run.
OPSETS: Final = {STANDARD: range(7, 27), CLASSICAL: range(1, 6)}

_ARITHMETIC: Final = """
    Abs Add Ceil Clip CumSum Div Erf Exp Floor Log Max Mean Min Mod Mul Neg Pow Reciprocal Round Sign Sqrt Sub Sum
    Acos Acosh Asin Asinh Atan Atanh Cos Cosh Sin Sinh Tan Tanh
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Where Xor
"""
_SHAPES: Final = """
    Cast CastLike Compress Concat Constant ConstantOfShape DepthToSpace Dropout Expand EyeLike Flatten Gather
    GatherElements GatherND Identity If NonZero OneHot Pad Range Reshape ReverseSequence Scatter ScatterElements
    ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unique Unsqueeze
"""
_SUMS: Final = """
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Det Einsum Gemm MatMul
"""
_LAYERS: Final = """
    Attention AveragePool BatchNormalization Celu Conv ConvTranspose Elu GRU Gelu GlobalAveragePool GlobalMaxPool
    GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization LRN LSTM LayerNormalization LeakyRelu
    LogSoftmax LpNormalization LpPool MaxPool MeanVarianceNormalization Mish PRelu RNN RMSNormalization Relu Resize
    Selu Shrink Sigmoid Softmax Softplus Softsign Swish ThresholdedRelu
    ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear
"""
_CLASSICAL: Final = """
    ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor
"""

ALLOWED: Final = {
    STANDARD: frozenset((_ARITHMETIC + _SHAPES + _SUMS + _LAYERS).split()),
    CLASSICAL: frozenset(_CLASSICAL.split()),
}

#: What authors most often have to do about an operator that is refused.
ADVICE: Final = {
    "ZipMap": "convert with the option zipmap=False",
    "If": "run both and choose with Where",
    **dict.fromkeys(("Compress", "NonZero"), "keep every element and mask with Where"),
}


def qualified(domain: str, operator: str) -> str:
    """Return the name of an operator with its domain, which the standard's have not."""
    return f"{domain}.{operator}" if domain else operator
