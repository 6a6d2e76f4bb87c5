"""Forms of the HTTP API."""

from typing import Annotated, Any

from fastapi import Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field, model_validator

from multitask_runtime.schemas import mismatch

_MULTIPART = Form(media_type='multipart/form-data')


class _ModelForm(BaseModel):
    """Fields of every request; others are refused, as a misspelled one would have no effect."""

    model_config = ConfigDict(extra='forbid')

    model: str | None = Field(
        default=None, description='Name of the model; the first one by default'
    )

    @model_validator(mode='before')
    @classmethod
    def _refuse_unknown_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            if name not in cls.model_fields:
                expected = f'one of the fields {", ".join(sorted(cls.model_fields))}'
                raise mismatch(name[:60], expected, name)
        return fields


class _PredictForm(_ModelForm):
    score_thr: float = Field(
        default=0.3, ge=0, le=1, description='Instances must have a higher score'
    )
    kpt_thr: float | None = Field(
        default=None,
        description="Keypoints with a lower score are not drawn; the model's by default",
    )
    visualize: bool = Field(default=False, description='Whether to draw the images')


class _Images(_PredictForm):
    files: list[UploadFile] = Field(description='Images')


class _Video(_PredictForm):
    file: UploadFile = Field(description='A video: MP4, MOV, WebM, MKV or AVI')
    frame_step: int = Field(default=1, ge=1, le=1000, description='Process every n-th frame')


class _Offsets(_ModelForm):
    file: UploadFile = Field(description='An image')
    instance: int = Field(
        default=1, ge=1, le=1000, description='Rank of the instance by its score'
    )
    keypoint: str | None = Field(
        default=None, description='Name of the keypoint; the one with the highest score by default'
    )


ImagesForm = Annotated[_Images, _MULTIPART]
VideoForm = Annotated[_Video, _MULTIPART]
OffsetsForm = Annotated[_Offsets, _MULTIPART]
