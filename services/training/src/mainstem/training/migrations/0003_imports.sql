-- Runs that bring in a model made elsewhere, and its address.
create table import(run text primary key, onnx text not null);
