"""What `grpcurl -plaintext` does with the arguments of our pages, by reflection: for machines that have no grpcurl."""

import argparse

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main() -> None:
    """List the services of an address, or call a method with a message as JSON and print what it answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-d", default="{}")
    parser.add_argument("address")
    parser.add_argument("symbol")
    asked = parser.parse_args()
    with grpc.insecure_channel(asked.address) as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        if asked.symbol == "list":
            print("\n".join(sorted(known.get_services())))
            return
        service, _, name = asked.symbol.partition("/")
        method = DescriptorPool(known).FindServiceByName(service).FindMethodByName(name)
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(f"/{asked.symbol}", request.SerializeToString, response.FromString)
        print(MessageToJson(call(Parse(asked.d, request())), preserving_proto_field_name=True))


if __name__ == "__main__":
    main()
