# The web page and HTTP API for an exported model, without PyTorch. The steps are those of
# README.md, which has the commands to build and run it.
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
COPY requirements.txt requirements-onnx.txt requirements-serve.txt ./
RUN pip install -r requirements-serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY projects projects
RUN pip install --no-deps .
# Not root; /models/model.onnx is mounted.
USER 65534:65534
WORKDIR /models
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
CMD ["multitask", "serve", "model.onnx", "--host", "0.0.0.0"]
