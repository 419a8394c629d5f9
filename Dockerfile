# handi in a container. CPU:
#   docker build -t handi .
#   docker run --rm -v "$PWD:/work" handi generate --image example --prompt "Cut the carrot." --out out/demo
# GPU (needs the NVIDIA container toolkit):
#   docker build -t handi:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm --gpus all -v "$PWD:/work" handi:cuda doctor
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=data,train,world

WORKDIR /opt/handi
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)" \
 && pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

WORKDIR /work
ENTRYPOINT ["handi"]
CMD ["--help"]
